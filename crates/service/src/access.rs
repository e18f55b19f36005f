//! Who sends a request, and what they may do.
//!
//! Tokens come from a setting, as one token with all rights, or from a file that is read again when it changes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::RequestHead;
use actix_web::http::header::{AUTHORIZATION, USER_AGENT};
use arc_swap::ArcSwap;
use prometheus::{IntCounter, Registry};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use crate::attempts::Attempts;
use crate::clients::TrustedProxies;
use crate::tokens::{Grant, Role, Tokens, TokensError};
use crate::{Problem, Secret, chain};

/// How often the file with tokens is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What is kept of a `User-Agent`.
const USER_AGENT_CHARS_MAX: usize = 200;

/// Where tokens come from.
#[derive(Debug, Clone, Copy)]
pub struct TokenSources<'a> {
    /// The section of the settings: `API` or `UPDATER`.
    pub section: &'static str,
    /// One token with all rights.
    pub token: Option<&'a Secret>,
    /// A file with tokens.
    pub tokens_file: Option<&'a Path>,
}

/// Decides who may do what.
#[derive(Debug)]
pub struct Access {
    /// Without tokens anybody may do everything.
    tokens: Option<Arc<ArcSwap<Tokens>>>,
    attempts: Attempts,
    proxies: TrustedProxies,
    wrong_tokens: IntCounter,
    /// Ends with the last server that holds this.
    _follows: Option<AbortOnDropHandle<()>>,
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Caller {
    grant: Option<Grant>,
    /// The address of the client.
    pub address: IpAddr,
    /// What the client calls itself.
    pub user_agent: String,
}

impl Caller {
    /// The name of the token that was sent.
    pub fn token(&self) -> Option<&str> {
        self.grant.as_ref().map(|grant| &*grant.name)
    }

    /// Whether the caller may do this.
    pub fn is_allowed(&self, role: Role, dataset: Option<&str>) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.allows(role, dataset))
    }

    /// Refuses what the caller's token does not allow.
    pub fn authorize(&self, role: Role, dataset: Option<&str>) -> Result<(), Problem> {
        if self.is_allowed(role, dataset) {
            return Ok(());
        }
        Err(forbidden(self.token().unwrap_or_default(), role, dataset))
    }
}

impl Access {
    /// Reads the tokens and follows their file. Must be called within a tokio runtime.
    pub fn start(
        sources: TokenSources<'_>,
        proxies: &TrustedProxies,
        registry: &Registry,
    ) -> Result<Arc<Self>, TokensError> {
        let wrong_tokens =
            IntCounter::new("tableswap_wrong_tokens_total", "Requests with a token that is not valid.")?;
        registry.register(Box::new(wrong_tokens.clone()))?;
        let mut source = Source::new(sources);
        let tokens = source.read()?;
        let tokens = (!tokens.is_empty()).then(|| Arc::new(ArcSwap::from_pointee(tokens)));
        let follows = tokens.as_ref().filter(|_| source.path.is_some()).map(|tokens| {
            let tokens = tokens.clone();
            source.judged = source.content();
            AbortOnDropHandle::new(tokio::spawn(follow(source, tokens)))
        });
        let proxies = proxies.clone();
        Ok(Arc::new(Self { tokens, attempts: Attempts::default(), proxies, wrong_tokens, _follows: follows }))
    }

    /// Whether no token is needed for anything.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    /// Finds out who sends a request. Where there are tokens, it must bring one of them.
    pub fn identify(&self, head: &RequestHead) -> Result<Caller, Problem> {
        let grant = self.grant(head)?;
        Ok(self.caller(head, grant))
    }

    /// The same for a request that needs no token: a wrong one is refused all the same.
    pub fn identify_anonymous(&self, head: &RequestHead) -> Result<Caller, Problem> {
        if head.headers.contains_key(AUTHORIZATION) {
            self.identify(head)
        } else {
            Ok(self.caller(head, None))
        }
    }

    /// Whether the request may read this dataset.
    pub fn authorize_read(&self, head: &RequestHead, dataset: &str) -> Result<(), Problem> {
        match self.grant(head)? {
            Some(grant) if !grant.allows(Role::Read, Some(dataset)) => {
                Err(forbidden(&grant.name, Role::Read, Some(dataset)))
            }
            _ => Ok(()),
        }
    }

    fn caller(&self, head: &RequestHead, grant: Option<Grant>) -> Caller {
        let user_agent =
            head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let user_agent = user_agent.chars().take(USER_AGENT_CHARS_MAX).collect();
        Caller { grant, address: self.proxies.client(head), user_agent }
    }

    fn grant(&self, head: &RequestHead) -> Result<Option<Grant>, Problem> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let mut given = head.headers.get_all(AUTHORIZATION);
        let (Some(header), None) = (given.next(), given.next()) else { return Err(unauthorized()) };
        let token = header.to_str().ok().and_then(bearer);
        if let Some(grant) = token.and_then(|token| tokens.load().find(token).cloned()) {
            return Ok(Some(grant));
        }
        Err(self.wrong_token(head))
    }

    fn wrong_token(&self, head: &RequestHead) -> Problem {
        let client = self.proxies.client(head);
        self.wrong_tokens.inc();
        if self.attempts.count(client, Instant::now()) {
            warn!(%client, path = head.uri.path(), "wrong token");
            return unauthorized();
        }
        debug!(%client, "too many wrong tokens");
        Problem::too_many_requests("too many wrong tokens came from this address")
    }
}

fn unauthorized() -> Problem {
    Problem::unauthorized("send the token as `Authorization: Bearer TOKEN`")
}

fn forbidden(token: &str, role: Role, dataset: Option<&str>) -> Problem {
    let dataset = dataset.map(|dataset| format!(" for `{dataset}`")).unwrap_or_default();
    Problem::forbidden(format!("the token `{token}` does not have the role `{}`{dataset}", role.as_str()))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// The setting and the file that tokens are read from.
struct Source {
    section: &'static str,
    token: Option<Secret>,
    path: Option<PathBuf>,
    /// The content that is in use, or whose refusal is in the log.
    judged: Option<Vec<u8>>,
}

impl Source {
    fn new(sources: TokenSources<'_>) -> Self {
        let TokenSources { section, token, tokens_file } = sources;
        Self { section, token: token.cloned(), path: tokens_file.map(Path::to_owned), judged: None }
    }

    fn read(&self) -> Result<Tokens, TokensError> {
        let variable = |name: &str| format!("TABLESWAP_{}_{name}", self.section);
        let mut tokens = match &self.path {
            Some(path) => Tokens::read(&variable("TOKENS_FILE"), path)?,
            None => Tokens::default(),
        };
        if let Some(token) = &self.token {
            tokens.add(&variable("TOKEN"), token)?;
        }
        Ok(tokens)
    }

    fn content(&self) -> Option<Vec<u8>> {
        self.path.as_ref().and_then(|path| std::fs::read(path).ok())
    }

    /// New tokens, if the file has changed and can be used.
    fn poll(&mut self) -> Option<Tokens> {
        let content = self.content();
        if content == self.judged {
            return None;
        }
        self.judged = content;
        match self.read() {
            Ok(tokens) => {
                info!("the new tokens are in use");
                Some(tokens)
            }
            Err(error) => {
                error!(error = chain(&error), "the new tokens cannot be used, the old ones stay in use");
                None
            }
        }
    }
}

async fn follow(mut source: Source, tokens: Arc<ArcSwap<Tokens>>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        // A volume of the network may let a reader hang.
        let poll = tokio::task::spawn_blocking(move || {
            let new = source.poll();
            (source, new)
        });
        let Ok((polled, new)) = poll.await else { return };
        source = polled;
        if let Some(new) = new {
            tokens.store(Arc::new(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_without_regard_to_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER  abc"] {
            assert_eq!(bearer(value), Some("abc"), "{value}");
        }
        for value in ["Basic abc", "Bearer", "abc", ""] {
            assert_eq!(bearer(value), None, "{value}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_leaves_the_old_tokens_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let line = |name: &str| {
            format!("[[tokens]]\nname = \"{name}\"\nsha256 = \"{}\"\nrole = \"read\"\n", "0".repeat(64))
        };
        std::fs::write(&path, line("a")).unwrap();
        let sources = TokenSources { section: "API", token: None, tokens_file: Some(&path) };
        let mut source = Source::new(sources);
        assert!(source.poll().is_some() && source.poll().is_none());
        std::fs::write(&path, "half a fi").unwrap();
        assert!(source.poll().is_none());
        std::fs::write(&path, line("b")).unwrap();
        assert!(source.poll().is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(source.poll().is_none());
    }
}
