//! Families of samples, and their text.

use cm_actors::metrics::HistogramView;
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// Labels of a sample: names are the code's, values come from small fixed sets.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// A number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, [(Vec::new(), value)]);
    }

    /// Numbers that only grow, by labels.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(labels);
            metric.set_counter(counter);
            metric
        });
        self.family(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// A number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Vec::new(), value)]);
    }

    /// Numbers that go up and down, by labels.
    pub(super) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels);
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// Values by class, by labels. `unit` of the values' own unit are one of the family's.
    pub(super) fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: f64,
        samples: impl IntoIterator<Item = (Labels<'a>, HistogramView)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, view)| {
            let buckets = view.upto.iter().map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(number(*bound) / unit);
                bucket.set_cumulative_count(*count);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(view.count);
            histogram.set_sample_sum(number(view.sum) / unit);
            let mut metric = labelled(labels);
            metric.set_histogram(histogram);
            metric
        });
        self.family(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    /// A family without samples says nothing, and the format has no place for it.
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// When a family is not one of the format, which the code rules out.
    pub(super) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.families)
    }
}

/// A number as the format has it. Beyond 2^53 the last digits are lost, which no counter here
/// reaches in the life of a process.
#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.counter("a_total", "Things.", 3.0);
        page.gauges("b", "More.", [(vec![("kind", "x\"y")], 1.5), (vec![("kind", "z")], 0.0)]);
        let view = HistogramView { upto: vec![(100, 1), (250, 1)], count: 2, sum: 600 };
        page.histograms("c_seconds", "Durations.", 1_000_000.0, [(vec![("of", "d")], view)]);
        page.counters("nothing_total", "No samples.", []);
        let expected = "\
# HELP a_total Things.
# TYPE a_total counter
a_total 3
# HELP b More.
# TYPE b gauge
b{kind=\"x\\\"y\"} 1.5
b{kind=\"z\"} 0
# HELP c_seconds Durations.
# TYPE c_seconds histogram
c_seconds_bucket{of=\"d\",le=\"0.0001\"} 1
c_seconds_bucket{of=\"d\",le=\"0.00025\"} 1
c_seconds_bucket{of=\"d\",le=\"+Inf\"} 2
c_seconds_sum{of=\"d\"} 0.0006
c_seconds_count{of=\"d\"} 2
";
        assert_eq!(page.text().unwrap(), expected);
    }
}
