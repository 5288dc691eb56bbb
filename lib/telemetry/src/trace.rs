//! Spans of sampled events: a stage's span is a child of the trace parent that the raw event carried.

use std::time::SystemTime;

use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

/// A W3C trace parent.
///
/// # Source
/// W3C Trace Context, level 1, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceParent {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; `None` for anything else.
    pub fn parse(text: &str) -> Option<TraceParent> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        if !lengths || version != "00" || parts.next().is_some() {
            return None;
        }
        let trace = TraceId::from_hex(trace)
            .ok()
            .filter(|id| *id != TraceId::INVALID)?;
        let span = SpanId::from_hex(span)
            .ok()
            .filter(|id| *id != SpanId::INVALID)?;
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        Some(TraceParent { trace, span, flags })
    }

    fn context(self) -> Context {
        let parent = SpanContext::new(self.trace, self.span, self.flags, true, TraceState::NONE);
        Context::new().with_remote_span_context(parent)
    }
}

/// Where a component's spans go.
pub struct Traces {
    tracer: Option<SdkTracer>,
}

impl Traces {
    pub(crate) fn new(tracer: Option<SdkTracer>) -> Traces {
        Traces { tracer }
    }

    /// Makes traces that lead nowhere.
    pub fn nowhere() -> Traces {
        Traces { tracer: None }
    }

    /// Says whether spans go anywhere; asking first saves parsing parents for nothing.
    pub fn enabled(&self) -> bool {
        self.tracer.is_some()
    }

    /// Emits the span of one event that a stage has just finished.
    pub fn emit(
        &self,
        name: &'static str,
        parent: &str,
        started: SystemTime,
        attributes: Vec<KeyValue>,
    ) {
        let (Some(tracer), Some(parent)) = (&self.tracer, TraceParent::parse(parent)) else {
            return;
        };
        let builder = tracer
            .span_builder(name)
            .with_kind(SpanKind::Consumer)
            .with_start_time(started)
            .with_attributes(attributes);
        tracer.build_with_context(builder, &parent.context()).end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_trace_parents_and_refuses_the_rest() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(TraceParent::parse(good).is_some());
        for bad in [
            "",
            "00",
            &good[..54],
            &good.replace("0af", "xyz"),
            &format!("{good}-1"),
            &good.replace("00-0", "ff-0"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        assert_eq!(
            TraceParent::parse(&format!("00-{}-b7ad6b7169203331-01", "0".repeat(32))),
            None
        );
    }
}
