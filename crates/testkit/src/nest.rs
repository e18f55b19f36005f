//! A directory and the one process that runs in it, both of which end with the test process.
//!
//! A test process can be killed, and statics are never dropped, so `Drop` alone cannot clean up. Each nest has an
//! undertaker: a small shell whose standard input is a pipe that only the test process holds. When the pipe
//! closes, for whatever reason, the undertaker kills the process whose id stands in the nest and removes the nest.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::until::{until, wait_for};

/// The removal is repeated because a killed process may finish its last call, and so create a file, in between.
const UNDERTAKER: &str = r#"
    while read -r _; do :; done
    if read -r pid <"$0/pid"; then kill -9 "$pid"; fi
    tries=0
    while ! rm -rf "$0" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
"#;

/// The process notes its own id before it becomes the program: whenever the test process dies, either the id is
/// there for the undertaker, or the nest is gone and the program does not start.
const LAUNCH: &str = r#"echo "$$" >"$0/pid" && exec "$@""#;

#[derive(Debug)]
pub(crate) struct Nest {
    dir: PathBuf,
    undertaker: Child,
    process: Mutex<Option<Child>>,
}

impl Nest {
    /// A fresh directory under the machine's temporary one.
    pub(crate) fn new(prefix: &str) -> Nest {
        let dir =
            tempfile::Builder::new().prefix(prefix).tempdir().expect("make a temporary directory").keep();
        let undertaker = Command::new("sh")
            .args(["-c", UNDERTAKER])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of what ends the test process and all of its group, such as Ctrl-C.
            .process_group(0)
            .spawn()
            .expect("start sh");
        Nest { dir, undertaker, process: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// A command that `start` can run: its output goes into the nest's log.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("open the log");
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH]).arg(&self.dir).arg(program);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .process_group(0);
        command
    }

    /// Runs what `command` made, in place of the process before, which has ended.
    pub(crate) fn start(&self, mut command: Command) {
        assert!(!self.is_running(), "the process is running already");
        *self.process() = Some(command.spawn().expect("start sh"));
    }

    pub(crate) fn id(&self) -> u32 {
        self.process().as_ref().expect("nothing was started").id()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some() && self.ended().is_none()
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        let status = self.process().as_mut()?.try_wait().expect("ask for the end of a process");
        if status.is_some() {
            // The number may be another process soon, and the undertaker must not kill that one.
            let _ = fs::remove_file(self.dir.join("pid"));
        }
        status
    }

    /// Waits for the end of the process, as long as `limit` allows.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        wait_for(limit, || self.ended())
    }

    /// Stops the process's time (SIGSTOP), and returns when all of its threads stand still: a signal takes effect
    /// somewhat later than it is sent, and one that is sent after it can be first.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        until(|| !self.is_running() || !self.has_moving_thread());
    }

    /// Lets a paused process go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends a signal by its name. A process that has ended gets none.
    pub(crate) fn signal(&self, name: &str) {
        if !self.is_running() {
            return;
        }
        // The shell's own `kill`, because the program of that name is not on every machine.
        let mut kill = Command::new("sh");
        kill.args(["-c", r#"kill -"$0" "$1" 2>&1"#, name]).arg(self.id().to_string());
        let output = kill.output().expect("start sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    fn has_moving_thread(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id()));
        // The state stands behind the name, which is in parentheses; `T` is a stopped thread's.
        let moves = |stat: String| !stat.rsplit(") ").next().unwrap_or_default().starts_with('T');
        let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).ok();
        threads.into_iter().flatten().flatten().filter_map(stat).any(moves)
    }

    /// Ends the process at once (SIGKILL), also a paused one.
    pub(crate) fn kill(&self) {
        if let Some(process) = self.process().as_mut() {
            // It fails for a process that has ended, which is what is wanted.
            let _ = process.kill();
            let _ = process.wait();
        }
        self.ended();
    }

    /// It has an extension because mariadbd adds one where there is none.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    /// All that the processes of this nest printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// A test that panicked must not make the others of its process fail as well.
    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        self.kill();
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping() -> Nest {
        let nest = Nest::new("nest-");
        let mut command = nest.command(Path::new("sleep"));
        command.arg("60");
        nest.start(command);
        nest
    }

    #[test]
    fn a_dropped_nest_is_removed_with_its_process() {
        let nest = sleeping();
        let (dir, process) = (nest.path().to_owned(), PathBuf::from(format!("/proc/{}", nest.id())));
        assert!(dir.exists() && process.exists());
        drop(nest);
        assert!(!dir.exists() && !process.exists());
    }

    #[test]
    fn a_paused_process_does_not_end_before_it_is_resumed() {
        let nest = sleeping();
        nest.pause();
        nest.signal("TERM");
        assert_eq!(nest.wait(Duration::from_millis(50)), None);
        nest.resume();
        assert!(nest.wait(Duration::from_secs(10)).is_some());
        assert!(!nest.path().join("pid").exists());
    }

    #[test]
    fn what_a_program_printed_stands_in_the_log() {
        let nest = Nest::new("nest-");
        let mut command = nest.command(Path::new("sh"));
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        nest.start(command);
        assert_eq!(nest.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(3));
        assert_eq!(nest.log(), "out\nerr\n");
    }
}
