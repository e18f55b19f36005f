//! Where loads run: on threads of their own, which give way to everything else on the machine.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime for loads; it can be dropped anywhere.
#[derive(Debug)]
pub(crate) struct LoadRuntime {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl LoadRuntime {
    /// Its threads have the priority `nice`: 0 is that of all others, 19 the lowest.
    pub(crate) fn start(nice: u8) -> io::Result<Self> {
        let mut runtime = Builder::new_multi_thread();
        let give_way = move || {
            // Where that is not allowed, a load takes what it can get, as everybody else does.
            let _ = rustix::process::setpriority_process(None, nice.into());
        };
        let runtime = runtime.enable_all().thread_name("load").on_thread_start(give_way).build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for LoadRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Loads have ended by then; a thread that still waits for a disk is not waited for.
            runtime.shutdown_background();
        }
    }
}
