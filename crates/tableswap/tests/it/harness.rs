//! Servers as processes, on a directory or a database of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::Value as Json;
use testkit::http::{self, Response};
use testkit::{Database, MariaDb, Server, free_port};

/// What a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_mins(3);

/// Where versions live.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Backend {
    Embedded,
    Mariadb,
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Embedded, Backend::Mariadb];

/// A store, and the settings with which servers find it.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) database: Option<Database>,
    pub(crate) updater_port: u16,
    pub(crate) api_port: u16,
}

/// The programs that are built beside the command.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_tableswap")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run the tests of the whole workspace", path.display());
    path
}

impl Site {
    pub(crate) fn new(backend: Backend) -> Self {
        let database = (backend == Backend::Mariadb).then(|| MariaDb::shared().database());
        Self { dir: tempfile::tempdir().unwrap(), database, updater_port: free_port(), api_port: free_port() }
    }

    /// A site on a database of a server of its own.
    pub(crate) fn on(database: Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, database: Some(database), updater_port: free_port(), api_port: free_port() }
    }

    /// Another updater of the same database, with a work directory of its own.
    pub(crate) fn beside(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, database: self.database.clone(), updater_port: free_port(), api_port: free_port() }
    }

    fn store_url(&self, read_only: bool) -> String {
        match &self.database {
            Some(database) if read_only => database.reader_url(),
            Some(database) => database.url(),
            None => format!("embedded:{}", self.dir.path().join("data").display()),
        }
    }

    pub(crate) fn updater(&self) -> Server {
        self.updater_with(&[])
    }

    pub(crate) fn updater_with(&self, more: &[(&str, &str)]) -> Server {
        let updater = self.spawn_updater(more);
        updater.wait_until_healthy(self.updater_port);
        updater
    }

    /// Starts an updater and waits for nothing.
    pub(crate) fn spawn_updater(&self, more: &[(&str, &str)]) -> Server {
        let (url, work) = (self.store_url(false), self.dir.path().join("work"));
        let listen = format!("127.0.0.1:{}", self.updater_port);
        let mut env = vec![
            ("TABLESWAP_STORE_URL", url.as_str()),
            ("TABLESWAP_UPDATER_LISTEN", &listen),
            ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
        ];
        env.extend(more);
        Server::spawn(program("updater"), &[], &env)
    }

    pub(crate) fn api(&self) -> Server {
        self.api_with(&[])
    }

    pub(crate) fn api_with(&self, more: &[(&str, &str)]) -> Server {
        let (url, listen) = (self.store_url(true), format!("127.0.0.1:{}", self.api_port));
        let env = [("TABLESWAP_STORE_URL", url.as_str()), ("TABLESWAP_API_LISTEN", &listen)];
        Server::start(program("api"), &[], &[&env, more].concat(), self.api_port)
    }

    /// One more api, with its port.
    pub(crate) fn another_api(&self) -> (Server, u16) {
        let url = self.store_url(true);
        let env = [("TABLESWAP_STORE_URL", url.as_str()), ("TABLESWAP_API_LISTEN", "127.0.0.1:0")];
        Server::start_on_any_port(program("api"), &[], &env)
    }

    /// Both servers in one process.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let (url, work) = (self.store_url(false), self.dir.path().join("work"));
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let (updater, api) = (listen(self.updater_port), listen(self.api_port));
        let env = [
            ("TABLESWAP_STORE_URL", url.as_str()),
            ("TABLESWAP_UPDATER_LISTEN", &updater),
            ("TABLESWAP_API_LISTEN", &api),
            ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
        ];
        let arguments = [&["serve"], arguments].concat();
        Server::start(program("tableswap"), &arguments, &env, self.api_port)
    }

    /// Uploads a file of promotions as curl does.
    pub(crate) fn upload(&self, file: &[u8]) -> Response {
        let (content_type, body) = http::multipart("data", "promotions.csv", file);
        http::post(self.updater_port, "/upload", &[("content-type", &content_type)], &body)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.api_port, path)
    }

    /// The live version, if there is one.
    pub(crate) fn live(&self) -> Option<u64> {
        let listed = http::get(self.updater_port, "/datasets/promotions/versions");
        json(&listed)["live"].as_u64()
    }

    /// Runs the command as a user does.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, b"")
    }

    pub(crate) fn command_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        use std::io::Write;
        let mut child = Command::new(program("tableswap"))
            .args(arguments)
            .args(["--updater", &format!("http://127.0.0.1:{}", self.updater_port)])
            .args(["--api", &format!("http://127.0.0.1:{}", self.api_port)])
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input);
        let id = child.id().to_string();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        // One that hangs is killed, and its exit is not what the test expects.
        let watch = std::thread::spawn(move || {
            if ended.recv_timeout(COMMAND_PATIENCE).is_err_and(|error| error == RecvTimeoutError::Timeout) {
                Command::new("kill").args(["-KILL", &id]).status().unwrap();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        watch.join().unwrap();
        output
    }

    /// The paths of a certificate for `localhost` and of its key.
    pub(crate) fn tls_pair(&self) -> (String, String) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (self.file("tls.crt", pair.cert.pem()), self.file("tls.key", pair.signing_key.serialize_pem()))
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub(crate) fn json(response: &Response) -> Json {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// What a command printed, on both streams, and how it ended.
pub(crate) fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}exit {}", text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}
