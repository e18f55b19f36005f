//! A test process that is killed leaves no server and no directory behind.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use testkit::MariaDb;

/// The test process to be killed: it starts a server as most tests do, in a static that is never dropped.
fn live_and_wait() -> ! {
    let server = MariaDb::shared();
    let pid = std::fs::read_to_string(server.data_dir().with_file_name("mariadbd.pid")).unwrap();
    let ready = format!("\nready {} {}\n", pid.trim(), server.data_dir().display());
    io::stdout().write_all(ready.as_bytes()).unwrap();
    loop {
        sleep(Duration::from_mins(1));
    }
}

fn wait_until_gone(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while path.exists() {
        assert!(Instant::now() < deadline, "{} is still there", path.display());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    if env::var_os("ROLE_VICTIM").is_some() {
        live_and_wait();
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "leftovers::a_killed_test_process_leaves_nothing_behind", "--nocapture"])
        .env("ROLE_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready ")).unwrap();
    let (process, data) = ready["ready ".len()..].split_once(' ').unwrap();
    // A process that has ended has no program any more, also where nobody asked yet how it ended.
    let (process, data) = (PathBuf::from(format!("/proc/{process}/exe")), PathBuf::from(data));
    assert!(process.exists() && data.exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until_gone(&process);
    wait_until_gone(data.parent().unwrap());
}
