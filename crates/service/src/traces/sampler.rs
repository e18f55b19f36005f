//! Which requests are traced.
//!
//! A client can ask for a trace by its `traceparent`. Unless such clients are trusted, only the configured share of
//! these requests is traced, so that nobody can make the servers send a trace of every request. The draw is keyed: a
//! client that chooses its trace ids cannot choose those that are drawn.

use std::hash::{BuildHasher, RandomState};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

#[derive(Debug, Clone)]
pub(super) struct RequestSampler {
    share: f64,
    trusts_clients: bool,
    by_parent: Sampler,
    key: RandomState,
}

impl RequestSampler {
    /// Traces this share of requests, from 0 to 1.
    pub(super) fn new(share: f64, trusts_clients: bool) -> Self {
        let by_parent = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        Self { share, trusts_clients, by_parent, key: RandomState::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    fn is_drawn(&self, trace: TraceId) -> bool {
        (self.key.hash_one(trace.to_bytes()) as f64) < self.share * u64::MAX as f64
    }
}

impl ShouldSample for RequestSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_asked_for = !self.trusts_clients
            && parent.is_some_and(|parent| {
                let span = parent.span();
                let context = span.span_context();
                context.is_valid() && context.is_remote() && context.is_sampled()
            });
        if is_asked_for && !self.is_drawn(trace) {
            return SamplingResult {
                decision: SamplingDecision::Drop,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.by_parent.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};

    use super::*;

    /// How many of 10,000 requests are traced whose clients ask for it.
    fn traced(sampler: &RequestSampler) -> usize {
        let is_traced = |id: &u128| {
            let flags = TraceFlags::SAMPLED;
            // A client that sends ids which a plain ratio would always take.
            let trace = TraceId::from(id << 64 | 1);
            let span = SpanContext::new(trace, SpanId::from(1_u64), flags, true, TraceState::default());
            let parent = Context::new().with_remote_span_context(span);
            let result = sampler.should_sample(Some(&parent), trace, "", &SpanKind::Server, &[], &[]);
            matches!(result.decision, SamplingDecision::RecordAndSample)
        };
        (1..=10_000).filter(is_traced).count()
    }

    #[test]
    fn a_client_that_is_not_trusted_gets_no_more_traces_than_the_configured_share() {
        assert_eq!(traced(&RequestSampler::new(0.0, false)), 0);
        let tenth = traced(&RequestSampler::new(0.1, false));
        assert!((800..1200).contains(&tenth), "{tenth}");
        assert_eq!(traced(&RequestSampler::new(1.0, false)), 10_000);
        assert_eq!(traced(&RequestSampler::new(0.0, true)), 10_000);
    }
}
