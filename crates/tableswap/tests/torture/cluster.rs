//! Two updaters and two apis on one store, each of which can be killed, paused and, on MariaDB, cut off.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use testkit::{Database, FaultProxy, MariaDb, Replication, Server, free_port};

use crate::verdict::FaultTimes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Embedded,
    Mariadb,
    /// MariaDB with two replicas, from which the apis read.
    Replicated,
}

/// The database servers of a cluster.
pub(crate) enum Servers {
    Single(MariaDb),
    Replicated(Replication),
}

impl Servers {
    fn start(backend: Backend) -> Option<Servers> {
        match backend {
            Backend::Embedded => None,
            Backend::Mariadb => Some(Servers::Single(MariaDb::start())),
            Backend::Replicated => Some(Servers::Replicated(Replication::start(2))),
        }
    }

    pub(crate) fn primary(&self) -> &MariaDb {
        match self {
            Servers::Single(server) => server,
            Servers::Replicated(servers) => servers.primary(),
        }
    }

    pub(crate) fn replicas(&self) -> Option<&Replication> {
        match self {
            Servers::Single(_) => None,
            Servers::Replicated(servers) => Some(servers),
        }
    }

    fn database(&self) -> Database {
        match self {
            Servers::Single(server) => server.database(),
            Servers::Replicated(servers) => servers.database(),
        }
    }
}

/// A program that is built beside the command.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_tableswap")).with_file_name(name);
    assert!(path.exists(), "{} is missing: build the whole workspace first", path.display());
    path
}

/// The dataset that ships without the shrink guard, because the sizes of the files are drawn by lot.
const SHRINK_GUARD: &str = "max_shrink_percent = 50";

pub(crate) struct Cluster {
    pub(crate) database: Option<Servers>,
    pub(crate) updaters: [Node; 2],
    pub(crate) apis: [Node; 2],
    _dir: tempfile::TempDir,
}

/// One server process after the other on one port.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Between this server and the database.
    pub(crate) proxy: Option<FaultProxy>,
    /// Only an api's are looked at.
    pub(crate) faults: FaultTimes,
    binary: &'static str,
    env: Vec<(String, String)>,
    state: Mutex<NodeState>,
}

#[derive(Default)]
struct NodeState {
    server: Option<Server>,
    /// What the processes before this one printed.
    old_logs: String,
}

impl Cluster {
    /// All servers, on an empty store.
    pub(crate) fn start(backend: Backend) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let definition = testkit::rows::PROMOTIONS_TOML.replace(SHRINK_GUARD, "max_shrink_percent = 100");
        assert!(definition.contains("= 100"), "the definition has changed");
        let datasets = dir.path().join("datasets.toml");
        std::fs::write(&datasets, definition).unwrap();
        let server = Servers::start(backend);
        let database = server.as_ref().map(Servers::database);
        let node = |name: &'static str| {
            let proxy = server.as_ref().map(|server| FaultProxy::start(server.primary().port()));
            let url = store_url(dir.path(), database.as_ref().zip(proxy.as_ref()), name.starts_with("api"));
            let port = free_port();
            let binary = if name.starts_with("api") { "api" } else { "updater" };
            let section = binary.to_uppercase();
            let mut env = vec![
                ("TABLESWAP_STORE_URL".to_owned(), url),
                (format!("TABLESWAP_{section}_LISTEN"), format!("127.0.0.1:{port}")),
            ];
            if binary == "updater" {
                let path = |path: PathBuf| path.to_str().unwrap().to_owned();
                env.push(("TABLESWAP_UPDATER_WORK_DIR".to_owned(), path(dir.path().join(name))));
                env.push(("TABLESWAP_UPDATER_DATASETS".to_owned(), path(datasets.clone())));
            }
            let replicas = server.as_ref().and_then(Servers::replicas).zip(database.as_ref());
            if let Some((replicas, database)) = replicas.filter(|_| binary == "api") {
                let urls = [0, 1].map(|n| database.reader_url_via(replicas.replica(n).port()));
                env.push(("TABLESWAP_STORE_READ_URLS".to_owned(), urls.join(",")));
            }
            let node = Node {
                name,
                port,
                proxy,
                faults: FaultTimes::default(),
                binary,
                env,
                state: Mutex::default(),
            };
            node.launch();
            node
        };
        let updaters = [node("updater 1"), node("updater 2")];
        let apis = [node("api 1"), node("api 2")];
        Cluster { database: server, updaters, apis, _dir: dir }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.updaters.iter().chain(&self.apis)
    }

    /// What all servers printed.
    pub(crate) fn logs(&self) -> String {
        let database = self.database.as_ref().map(|servers| servers.primary().log()).unwrap_or_default();
        self.nodes().map(Node::log).collect::<String>() + "== mariadbd\n" + &database
    }
}

fn store_url(dir: &Path, database: Option<(&Database, &FaultProxy)>, read_only: bool) -> String {
    match database {
        Some((database, proxy)) if read_only => database.reader_url_via(proxy.port()),
        Some((database, proxy)) => database.url_via(proxy.port()),
        None => format!("embedded:{}", dir.join("data").display()),
    }
}

impl Node {
    pub(crate) fn kill(&self) {
        self.with_server(Server::kill);
    }

    pub(crate) fn pause(&self) {
        self.with_server(Server::pause);
    }

    pub(crate) fn resume(&self) {
        self.with_server(Server::resume);
    }

    /// Starts a process in place of the one that was killed, and waits until it is healthy.
    pub(crate) fn launch(&self) {
        let env: Vec<(&str, &str)> =
            self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut state = self.state();
        if let Some(old) = state.server.take() {
            state.old_logs += &old.log();
            state.old_logs += "-- killed\n";
        }
        let server = state.server.insert(Server::spawn(program(self.binary), &[], &env));
        server.wait_until_healthy(self.port);
    }

    fn with_server(&self, act: impl FnOnce(&Server)) {
        act(self.state().server.as_ref().unwrap());
    }

    fn log(&self) -> String {
        let state = self.state();
        let log = state.server.as_ref().map(Server::log).unwrap_or_default();
        format!("== {}\n{}{log}\n", self.name, state.old_logs)
    }

    fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
