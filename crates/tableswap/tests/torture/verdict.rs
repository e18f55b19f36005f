//! Holds what readers saw against what was published.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::checker::{Answer, Outcome, Seen};
use crate::findings::Findings;
use crate::history::{History, Publication, may_follow, sources};

/// After a fault a reader may see its effects for this long: the store's timeout of 2 s and half a second until the
/// database is tried again.
const GRACE: Duration = Duration::from_secs(3);

/// Times during which an api, or what it reads from, is under a fault.
#[derive(Default)]
pub(crate) struct FaultTimes(Mutex<Vec<(Instant, Option<Instant>)>>);

impl FaultTimes {
    pub(crate) fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), None));
    }

    pub(crate) fn end(&self) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter_mut().filter(|(_, end)| end.is_none()).for_each(|(_, end)| *end = Some(Instant::now()));
    }

    fn cover(&self, started: Instant, ended: Instant) -> bool {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().any(|(from, to)| *from <= ended && to.is_none_or(|to| started <= to + GRACE))
    }
}

/// What is remembered of one reader from one judgement to the next.
pub(crate) struct Reader {
    /// The api's.
    name: &'static str,
    last: Option<(u32, Vec<Publication>)>,
    pub(crate) answers: usize,
    pub(crate) unavailable: usize,
}

impl Reader {
    pub(crate) fn of(name: &'static str) -> Reader {
        Reader { name, last: None, answers: 0, unavailable: 0 }
    }

    /// Judges answers, which came one after the other.
    pub(crate) fn judge(
        &mut self,
        answers: &[Answer],
        faults: &FaultTimes,
        history: &History,
        findings: &Findings,
    ) {
        let publications = history.publications();
        for answer in answers {
            let at = format!(
                "{}, {} from {:.3} to {:.3}",
                self.name,
                answer.request,
                findings.seconds(answer.started),
                findings.seconds(answer.ended)
            );
            match &answer.outcome {
                Outcome::Seen(seen) => {
                    self.answers += 1;
                    if let Err((rule, what)) = self.check(*seen, answer, &publications, history) {
                        findings.report(rule, format!("{at}: {what}"));
                    }
                }
                Outcome::Unavailable(why) => {
                    self.unavailable += 1;
                    if !faults.cover(answer.started, answer.ended) {
                        findings.report("P1 no answer without a fault", format!("{at}: {why}"));
                    }
                }
            }
        }
    }

    fn check(
        &mut self,
        Seen { version, edition }: Seen,
        answer: &Answer,
        publications: &[Publication],
        history: &History,
    ) -> Result<(), (&'static str, String)> {
        match history.edition_of(version) {
            Some(known) if known != edition => {
                let what = format!("version {version} is edition {known}, its rows are of edition {edition}");
                return Err(("P1 rows of another version", what));
            }
            None => return Err(("P3 a version that was never published", format!("version {version}"))),
            Some(_) => {}
        }
        let sources = sources(publications, version, (answer.started, answer.ended));
        if sources.is_empty() {
            let what = format!("version {version}, live are {}", live_then(publications, answer.started));
            return Err(("P7 P2 a version that is not live any more, or not yet", what));
        }
        let before = self.last.replace((version, sources));
        if let Some((last, last_sources)) = before
            && last != version
            && !may_follow(publications, &last_sources, version)
        {
            return Err(("P2 a version went back", format!("from {last} to {version}")));
        }
        Ok(())
    }
}

fn live_then(publications: &[Publication], started: Instant) -> String {
    let last = publications.iter().filter(|publication| publication.ended < started);
    let last = last.max_by_key(|publication| publication.ended);
    last.map_or("none".to_owned(), |last| format!("{} for {:?}", last.version, started - last.ended))
}
