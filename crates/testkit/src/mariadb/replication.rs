//! A primary and the replicas that follow it, as read scaling sets them up: each is a server of its own, and every
//! existing way to break a server works for each.

use std::thread::scope;
use std::time::Instant;

use super::{Database, MariaDb, PASSWORD, PATIENCE};

/// Full row images with a GTID each. The replicas read it as a user of their own.
const PRIMARY: &[&str] = &["--server-id=1", "--log-bin=binlog", "--binlog-format=ROW"];

/// A replica whose server starts also starts to replicate. It notices within two seconds that a connection to the
/// primary is dead without having been closed; a connection that breaks is made again after one second.
const REPLICA: &[&str] = &["--read-only=1", "--relay-log=relay", "--slave-net-timeout=2"];

/// Where the answer to `SHOW SLAVE STATUS` has what is looked at: it cannot be asked for by name.
const APPLIES: usize = 11;
const ERROR_NUMBER: usize = 18;
const ERROR: usize = 19;

/// A primary with a binary log, and replicas that follow it by GTID and refuse the writes of ordinary users.
///
/// Databases and users are made on the primary; the replicas get them as they get everything. A server that is
/// killed and restarted, on either side, replicates again by itself.
///
/// Measured on two cores with MariaDB 10.11, while other work kept them more or less busy: a start with one replica
/// takes 0.23 to 0.63 s, with two 0.35 to 1.1 s. Replicas follow about a second after a restart of the primary.
#[derive(Debug)]
pub struct Replication {
    primary: MariaDb,
    replicas: Vec<MariaDb>,
}

impl Replication {
    /// The servers of one test, which may stop, kill, pause and reconfigure them; returns when the replicas follow.
    pub fn start(replicas: usize) -> Replication {
        let replication = scope(|scope| {
            let primary = scope.spawn(|| MariaDb::start_with(PRIMARY));
            let replicas: Vec<_> =
                (2..replicas + 2).map(|id| scope.spawn(move || start_replica(id))).collect();
            let replicas = replicas.into_iter().map(|replica| replica.join().expect("start a replica"));
            let replicas = replicas.collect();
            Replication { primary: primary.join().expect("start the primary"), replicas }
        });
        replication.primary.execute(&format!(
            "CREATE USER replica@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
            GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'"
        ));
        for replica in &replication.replicas {
            // Kept in the data directory, so that a restart does not need it again.
            replica.execute(&format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'replica',
                    MASTER_PASSWORD = '{PASSWORD}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1;
                START SLAVE",
                replication.primary.port()
            ));
        }
        replication.wait_until_caught_up();
        replication
    }

    /// The server that is written to.
    pub fn primary(&self) -> &MariaDb {
        &self.primary
    }

    /// The replica of this number, from 0.
    pub fn replica(&self, number: usize) -> &MariaDb {
        &self.replicas[number]
    }

    /// A fresh database on the primary that, with its users, has come to the replicas: `reader_url_via` the port of
    /// a replica is the address there. Statements run on the primary.
    pub fn database(&self) -> Database {
        let database = self.primary.database();
        self.wait_until_caught_up();
        database
    }

    /// Waits until every replica has applied all that the primary has committed by now. Not waited for are replicas
    /// that do not run and those that were told not to apply; one that stopped at an error fails the test. The
    /// primary must answer, and no replica may be paused.
    pub fn wait_until_caught_up(&self) {
        let position = self.primary.execute("SELECT @@gtid_binlog_pos");
        let running = self.replicas.iter().filter(|replica| replica.nest.is_running());
        for replica in running {
            wait_for(replica, &position);
        }
    }

    /// The replica neither fetches nor applies from now on. It begins again at [`Replication::start_replication`] or
    /// when its server is restarted.
    pub fn stop_replication(&self, number: usize) {
        self.replica(number).execute("STOP SLAVE");
    }

    /// The replica fetches what the primary commits, but does not apply it, until it begins again as after
    /// [`Replication::stop_replication`].
    pub fn stop_applying(&self, number: usize) {
        self.replica(number).execute("STOP SLAVE SQL_THREAD");
    }

    /// The replica goes on where it stopped, whichever way that was.
    pub fn start_replication(&self, number: usize) {
        self.replica(number).execute("START SLAVE");
    }
}

fn start_replica(id: usize) -> MariaDb {
    MariaDb::start_with(&[REPLICA, &[&format!("--server-id={id}")]].concat())
}

/// Waits in short turns, because `MASTER_GTID_WAIT` does not end when the replica stops at an error.
fn wait_for(replica: &MariaDb, position: &str) {
    let deadline = Instant::now() + PATIENCE;
    let has_applied = format!("SELECT MASTER_GTID_WAIT('{position}', 0.2)");
    while applies(replica) && replica.execute(&has_applied) != "0" {
        assert!(Instant::now() < deadline, "a replica does not catch up:\n{}", replica.log());
    }
}

/// Whether the thread that applies runs; where it stopped by itself the test cannot go on.
fn applies(replica: &MariaDb) -> bool {
    let status = replica.execute("SHOW SLAVE STATUS");
    let status: Vec<_> = status.split('\t').collect();
    assert!(status[ERROR_NUMBER] == "0", "a replica stopped at an error: {}", status[ERROR]);
    status[APPLIES] == "Yes"
}
