//! Figures: percentiles, medians of runs, ratios of two programs.

use serde_json::{Map, Value, json};

/// Times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    sorted: Vec<u64>,
}

impl Samples {
    /// Takes times in any order.
    pub(crate) fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The time that so many percent do not exceed, in microseconds; 0 without samples.
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        // Positions are far below the numbers at which a float loses whole ones.
        let index = (last as f64 * percent / 100.0).round() as usize;
        self.sorted.get(index).map_or(0.0, |time| round(*time as f64 / 1_000.0))
    }
}

/// A figure with as many digits as it is worth.
pub(crate) fn round(figure: f64) -> f64 {
    let digits = if figure.abs() >= 100.0 { 10.0 } else { 1_000.0 };
    (figure * digits).round() / digits
}

/// The figures of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(Vec<(&'static str, Value)>);

impl Figures {
    /// Adds a figure.
    pub(crate) fn add(&mut self, name: &'static str, figure: f64) {
        self.0.push((name, json!(round(figure))));
    }

    /// Adds a count.
    pub(crate) fn count(&mut self, name: &'static str, count: u64) {
        self.0.push((name, json!(count)));
    }

    /// Adds something that holds or does not.
    pub(crate) fn flag(&mut self, name: &'static str, holds: bool) {
        self.0.push((name, json!(holds)));
    }

    /// Adds a list of figures.
    pub(crate) fn list(&mut self, name: &'static str, figures: impl IntoIterator<Item = f64>) {
        self.0.push((name, figures.into_iter().map(round).collect()));
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
}

/// The median of each figure over runs; what is no number is that of the last run.
pub(crate) fn medians(runs: &[Figures]) -> Map<String, Value> {
    let Some(last) = runs.last() else { return Map::new() };
    let median = |name: &str, value: &Value| {
        let mut values: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.0.iter().find(|(known, _)| *known == name)?.1.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        match values.get(values.len() / 2) {
            // A count stays one.
            Some(upper) if value.is_u64() => json!(upper.round() as u64),
            Some(upper) if values.len() % 2 == 1 => json!(upper),
            Some(upper) => json!(round((values[values.len() / 2 - 1] + upper) / 2.0)),
            None => value.clone(),
        }
    };
    last.0.iter().map(|(name, value)| ((*name).to_owned(), median(name, value))).collect()
}

/// The second program's figures in terms of the first one's, where both are numbers.
pub(crate) fn ratios(
    first: &Map<String, Value>,
    second: &Map<String, Value>,
) -> Map<String, Value> {
    let ratio = |(name, value): (&String, &Value)| {
        let (first, second) = (value.as_f64()?, second.get(name)?.as_f64()?);
        (first != 0.0).then(|| (name.clone(), json!(round(second / first))))
    };
    first.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figure: f64, holds: bool) -> Figures {
        let mut figures = Figures::default();
        figures.add("figure", figure);
        figures.flag("holds", holds);
        figures
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let samples = Samples::new((0..=100).rev().map(|time| time * 1_000).collect());
        assert_eq!((samples.percentile_us(50.0), samples.percentile_us(99.0)), (50.0, 99.0));
        assert_eq!(Samples::default().percentile_us(50.0), 0.0);
    }

    #[test]
    fn medians_and_ratios_are_taken_of_numbers() {
        let median = medians(&[run(1.0, true), run(9.0, true), run(2.0, false)]);
        assert_eq!(Value::Object(median.clone()), json!({ "figure": 2.0, "holds": false }));
        let other = medians(&[run(3.0, true), run(5.0, true)]);
        assert_eq!(Value::Object(ratios(&median, &other)), json!({ "figure": 2.0 }));
    }
}
