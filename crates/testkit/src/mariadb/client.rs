//! Statements as root through the `mariadb` client, which shares no code with the client that is under test.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    /// Runs the statements and gives the rows, tab-separated, a line each, without headers; or the server's message.
    pub(crate) fn run(&self, database: Option<&str>, sql: &str) -> Result<String, String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--protocol=socket", "--batch", "--skip-column-names"]);
        command.args(["--default-character-set=utf8mb4", "--connect-timeout=10"]);
        command.arg(format!("--socket={}", self.socket.display())).args(database).env_remove("MYSQL_PWD");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mariadb is not installed: `make test` installs it");
        let mut input = child.stdin.take().expect("a pipe");
        // A thread, because statements and rows may both be longer than a pipe holds.
        let output = thread::scope(|scope| {
            // Writing fails where the client gave up, which its exit code tells.
            scope.spawn(move || input.write_all(sql.as_bytes()));
            child.wait_with_output().expect("wait for mariadb")
        });
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
        if output.status.success() {
            return Ok(text(output.stdout));
        }
        // The client repeats the statement before the message.
        let error = text(output.stderr);
        Err(error.rfind("\nERROR ").map_or(error.clone(), |start| error[start + 1..].to_owned()))
    }
}
