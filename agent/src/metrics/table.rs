//! What metrics there are, each declared once.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart of what counts it.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name without unit and `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit: the last part of the name, before `_total`.
    pub unit: Option<&'static str>,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, without a full stop.
    pub help: &'static str,
}

impl Metric {
    /// A counter without labels.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            unit: None,
            labels: &[],
            help,
        }
    }

    /// A gauge without labels.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, help)
        }
    }

    /// In this unit.
    #[must_use]
    pub const fn unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    /// With these labels.
    #[must_use]
    pub const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// The name that Prometheus shows.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let total = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        format!("{}{unit}{total}", self.name)
    }
}

/// Names and values of labels.
type Labels = Vec<(String, String)>;

/// Writes samples into a registry.
pub struct Families<'a> {
    registry: &'a mut Registry,
}

impl<'a> Families<'a> {
    /// Into this one.
    pub fn new(registry: &'a mut Registry) -> Self {
        Self { registry }
    }

    /// Adds a counter with its samples: values of its labels, in their order, and its own. Samples
    /// with the same labels are added up.
    pub fn counters<'v, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'v str; N], u64)>,
    ) {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        let family = Family::<Labels, Counter>::default();
        for (values, value) in samples {
            family.get_or_create(&labels(metric, &values)).inc_by(value);
        }
        self.register(metric, family);
    }

    /// Adds a gauge with its samples.
    pub fn gauges<'v, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (values, value) in samples {
            family.get_or_create(&labels(metric, &values)).inc_by(value);
        }
        self.register(metric, family);
    }

    /// Adds a counter without labels.
    pub fn counter(&mut self, metric: &Metric, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.register(metric, counter);
    }

    /// Adds a gauge without labels.
    pub fn gauge(&mut self, metric: &Metric, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.register(metric, gauge);
    }

    /// Adds a gauge that is 1 for yes and 0 for no.
    pub fn flag(&mut self, metric: &Metric, yes: bool) {
        self.gauge(metric, f64::from(u8::from(yes)));
    }

    fn register(&mut self, metric: &Metric, family: impl prometheus_client::registry::Metric) {
        match metric.unit {
            Some(unit) => {
                let unit = Unit::Other(unit.to_owned());
                self.registry
                    .register_with_unit(metric.name, metric.help, unit, family);
            }
            None => self.registry.register(metric.name, metric.help, family),
        }
    }
}

fn labels(metric: &Metric, values: &[&str]) -> Labels {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let names = metric.labels.iter().map(|name| (*name).to_owned());
    names
        .zip(values.iter().map(|value| (*value).to_owned()))
        .collect()
}

/// All metrics, in the order of the reference page.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Metric)> {
    let parts = [
        ("Agent", super::agent::METRICS),
        ("Data path", super::datapath::METRICS),
        ("Flows", super::flows::METRICS),
        ("Encryption", super::encryption::METRICS),
    ];
    parts
        .into_iter()
        .flat_map(|(part, metrics)| metrics.iter().map(move |metric| (part, *metric)))
}
