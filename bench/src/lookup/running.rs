//! A contender's own server, which has shown that it answers as it has to.

use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, str};

use anyhow::{Context, ensure};
use testkit::{Server, free_port, http};

use crate::lookup::contender::{Answer, Backend, Contender};
use crate::programs::Programs;
use crate::stores::Stores;

/// How long an api may take until it has found its data, and until it answers again after its time was stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// A started server.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) contender: &'static Contender,
    pub(crate) port: u16,
    /// What every request of this contender brings.
    pub(crate) header: Option<String>,
    /// One that will be asked for.
    id: String,
    server: Server,
}

impl Running {
    /// Starts the contender's server, checks it with these ids, some of those that will be asked for, and stops its time.
    pub(crate) fn start(
        contender: &'static Contender,
        programs: &Programs,
        stores: &Stores,
        ids: &[String],
    ) -> anyhow::Result<Running> {
        let port = free_port();
        let server = match contender.backend {
            Backend::Bare => start_this("bare", &[], port)?,
            backend => {
                let url = stores.url(backend).context("there is no store to read from")?;
                match backend {
                    Backend::MariadbPlain => start_this("plain", &["--database", &url], port)?,
                    _ => start_api(contender, programs, &url, port)?,
                }
            }
        };
        let id = ids.first().context("no id to ask for")?.clone();
        let mut running = Running { contender, port, header: None, id, server };
        if contender.answer == Answer::NotModified {
            running.header = Some(running.known_version()?);
        }
        ids.iter().try_for_each(|id| running.check(id)).context(contender.name)?;
        running.server.pause();
        Ok(running)
    }

    /// Gives it a turn. Those who have none take no time from it, not even to follow their store.
    pub(crate) fn turn<T>(&self, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.server.resume();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.check(&self.id) {
            ensure!(Instant::now() < deadline, "{error}:\n{}", self.server.log());
            sleep(Duration::from_millis(20));
        }
        let ran = run();
        self.server.pause();
        ran
    }

    /// The header of a client that has the live version already.
    fn known_version(&self) -> anyhow::Result<String> {
        let answer = self.get(&self.id);
        Ok(format!("If-None-Match: {}", answer.header("etag").context("an answer without etag")?))
    }

    fn check(&self, id: &str) -> anyhow::Result<()> {
        let answer = self.get(id);
        let expected = match self.contender.answer {
            Answer::Found => 200,
            Answer::Missing => 404,
            Answer::NotModified => 304,
        };
        ensure!(answer.status == expected, "{} for {id}, and not {expected}", answer.status);
        let is_row = expected == 200 && self.contender.backend != Backend::Bare;
        ensure!(!is_row || answer.text().contains(id), "another row for {id}: {}", answer.text());
        Ok(())
    }

    fn get(&self, id: &str) -> http::Response {
        let headers: Vec<(&str, &str)> =
            self.header.iter().filter_map(|header| header.split_once(": ")).collect();
        http::get_with(self.port, &format!("/promotions/{id}"), &headers)
    }
}

/// Starts this program with another command.
fn start_this(command: &str, more: &[&str], port: u16) -> anyhow::Result<Server> {
    let this = env::current_exe().context("this program's own path")?;
    Ok(Server::start(this, &[&[command, "--port", &port.to_string()], more].concat(), &[], port))
}

fn start_api(
    contender: &Contender,
    programs: &Programs,
    store_url: &str,
    port: u16,
) -> anyhow::Result<Server> {
    let listen = format!("127.0.0.1:{port}");
    let mut environment = vec![
        ("TABLESWAP_STORE_URL", store_url),
        ("TABLESWAP_API_LISTEN", &listen),
        ("TABLESWAP_LOG_LEVEL", "warn"),
    ];
    environment.extend(contender.settings);
    let server = Server::start(programs.path("api")?, &[], &environment, port);
    let deadline = Instant::now() + PATIENCE;
    while http::get(port, "/readyz").status != 200 {
        ensure!(Instant::now() < deadline, "{} is not ready:\n{}", contender.name, server.log());
        sleep(Duration::from_millis(20));
    }
    Ok(server)
}
