//! A built server binary, run as a process of its own, as an operator runs it.

use std::env;
use std::path::Path;
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::http;
use crate::nest::Nest;

/// What a server may take until it is healthy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a server that is starting.
const POLL: Duration = Duration::from_millis(10);

/// A started binary. It is killed when it is dropped or when the test process ends in any way.
#[derive(Debug)]
pub struct Server {
    nest: Nest,
}

impl Server {
    /// Starts `binary` and waits until `http://127.0.0.1:{health_port}/healthz` answers 200.
    pub fn start(binary: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)], health_port: u16) -> Server {
        let server = Server::spawn(binary, args, env);
        server.wait_until_healthy(health_port);
        server
    }

    /// Starts a server of this project that binds port 0 by its settings. Waits until it says its port and answers
    /// `/healthz` with 200; returns it with its port.
    pub fn start_on_any_port(binary: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)]) -> (Server, u16) {
        let server = Server::spawn(binary, args, env);
        let port = server.wait_for_port("listen=");
        server.wait_until_healthy(port);
        (server, port)
    }

    /// Starts `binary` and waits for nothing: for a start that has to fail.
    ///
    /// It has PATH and the given variables in its environment, and an empty working directory.
    pub fn spawn(binary: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)]) -> Server {
        let nest = Nest::new("testkit-server-");
        let mut command = nest.command(binary.as_ref());
        let work_dir = nest.path().join("work");
        std::fs::create_dir(&work_dir).expect("make a working directory");
        let path = env::var_os("PATH").unwrap_or_default();
        command.args(args).env_clear().env("PATH", path).envs(env.iter().copied()).current_dir(work_dir);
        nest.start(command);
        Server { nest }
    }

    /// Waits until `/healthz` on this port answers 200; panics with the log if the process ends or time is up.
    pub fn wait_until_healthy(&self, port: u16) {
        let deadline = Instant::now() + PATIENCE;
        while !http::try_get(port, "/healthz").is_ok_and(|response| response.status == 200) {
            self.wait_for_more(deadline, &format!("no health on port {port}"));
        }
    }

    /// Waits until its log says on which port of 127.0.0.1 it listens, directly behind `announced`, which for servers of
    /// this project is `listen=`. The server is told to bind port 0.
    pub fn wait_for_port(&self, announced: &str) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        let announced = format!("{announced}127.0.0.1:");
        loop {
            let log = self.log();
            let digits = log.split_once(&announced).and_then(|(_, rest)| {
                let end = rest.find(|char: char| !char.is_ascii_digit())?;
                rest[..end].parse().ok()
            });
            if let Some(port) = digits {
                return port;
            }
            self.wait_for_more(deadline, "no port in the log");
        }
    }

    /// Waits a moment; panics with the log if the process ended or time is up.
    fn wait_for_more(&self, deadline: Instant, missing: &str) {
        if let Some(status) = self.nest.ended() {
            panic!("the server ended with {status}, {missing}:\n{}", self.log());
        }
        assert!(Instant::now() < deadline, "{missing}:\n{}", self.log());
        sleep(POLL);
    }

    /// All that it printed so far, standard output and standard error as they came.
    pub fn log(&self) -> String {
        self.nest.log()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.nest.id()
    }

    /// Asks it to end (SIGTERM); [`Server::wait`] tells how it did.
    pub fn terminate(&self) {
        self.nest.signal("TERM");
    }

    /// Waits for the end; panics with the log when `limit` is over.
    pub fn wait(&self, limit: Duration) -> ExitStatus {
        self.nest.wait(limit).unwrap_or_else(|| panic!("still running after {limit:?}:\n{}", self.log()))
    }

    /// Ends it at once (SIGKILL), as a crash does.
    pub fn kill(&self) {
        self.nest.kill();
    }

    /// Stops its time (SIGSTOP).
    pub fn pause(&self) {
        self.nest.pause();
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.nest.resume();
    }
}
