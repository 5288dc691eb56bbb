//! Makes instruments from [`names`](crate::names), so that no name, unit or description stands anywhere else.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place that makes instruments"
)]

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::names::Signal;

/// Makes the instruments of one component.
#[derive(Clone)]
pub struct Instruments {
    meter: Meter,
}

impl Instruments {
    pub(crate) fn new(meter: Meter) -> Instruments {
        Instruments { meter }
    }

    /// Makes instruments that lead nowhere, for tests and benchmarks.
    pub fn nowhere() -> Instruments {
        use opentelemetry::metrics::MeterProvider;
        Instruments {
            meter: opentelemetry::metrics::noop::NoopMeterProvider::new().meter("nowhere"),
        }
    }

    /// Makes a counter.
    pub fn counter(&self, signal: Signal) -> Counter<u64> {
        self.meter
            .u64_counter(signal.name)
            .with_unit(signal.unit)
            .with_description(signal.description)
            .build()
    }

    /// Makes a gauge.
    pub fn gauge(&self, signal: Signal) -> Gauge<f64> {
        self.meter
            .f64_gauge(signal.name)
            .with_unit(signal.unit)
            .with_description(signal.description)
            .build()
    }

    /// Makes a histogram with the boundaries given.
    pub fn histogram(&self, signal: Signal, boundaries: &[f64]) -> Histogram<f64> {
        self.meter
            .f64_histogram(signal.name)
            .with_unit(signal.unit)
            .with_description(signal.description)
            .with_boundaries(boundaries.to_vec())
            .build()
    }

    /// Makes a gauge that is read when metrics are collected.
    pub fn observe(&self, signal: Signal, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        self.observe_many(signal, move |emit| {
            if let Some(value) = read() {
                emit(value, &[]);
            }
        });
    }

    /// Makes a gauge of several series that is read when metrics are collected.
    pub fn observe_many(
        &self,
        signal: Signal,
        read: impl Fn(&mut dyn FnMut(f64, &[KeyValue])) + Send + Sync + 'static,
    ) {
        let _ = self
            .meter
            .f64_observable_gauge(signal.name)
            .with_unit(signal.unit)
            .with_description(signal.description)
            .with_callback(move |observer| {
                read(&mut |value, attributes| observer.observe(value, attributes))
            })
            .build();
    }
}
