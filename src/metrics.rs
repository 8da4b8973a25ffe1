//! Metrics: tables of counters and gauges, and their text in Prometheus' format, 0.0.4.
//!
//! A part that counts has one table, [`Measured::METRICS`]: each metric stands there once, with its
//! name, its help, its label and its value. No metric is labelled by host, so the page has the same
//! length for ten hosts and for a million.

use std::fmt::Display;
use std::sync::Arc;

/// Media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Number of bounds of a histogram.
pub const BOUNDS: usize = 12;

/// Upper bounds of the buckets of a histogram, ascending, in billionths of the metric's unit: in
/// nanoseconds where it is seconds.
pub type Bounds = [u64; BOUNDS];

/// Counts of values by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The last one counts the values above all bounds.
    counts: [u64; BOUNDS + 1],
    sum: u64,
}

impl Histogram {
    /// Builds one from the counts of its buckets and the sum of its values.
    pub const fn of(counts: [u64; BOUNDS + 1], sum: u64) -> Self {
        Self { counts, sum }
    }

    /// Counts a value, in billionths of the unit.
    pub fn record(&mut self, bounds: &Bounds, value: u64) {
        self.counts[bucket_of(bounds, value)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn write(&self, name: &str, bounds: &Bounds, page: &mut String) {
        let mut sum = 0;
        for (bound, count) in bounds.iter().zip(self.counts) {
            sum += count;
            let bound = *bound as f64 / 1e9;
            *page += &format!("{name}_bucket{{le=\"{bound}\"}} {sum}\n");
        }
        let (count, total) = (self.count(), self.sum as f64 / 1e9);
        *page += &format!("{name}_bucket{{le=\"+Inf\"}} {count}\n");
        *page += &format!("{name}_sum {total}\n{name}_count {count}\n");
    }
}

/// Place of the bucket of a value.
pub fn bucket_of(bounds: &Bounds, value: u64) -> usize {
    bounds.iter().take_while(|bound| value > **bound).count()
}

/// A metric of `T`: a histogram, or a counter if its name ends in `_total`, else a gauge.
#[derive(Debug)]
pub struct Metric<T> {
    name: &'static str,
    help: &'static str,
    value: Value<T>,
}

#[derive(Debug)]
enum Value<T> {
    Number(fn(&T) -> u64),
    Seconds(fn(&T) -> f64),
    /// A number for each value of a label.
    ByLabel(&'static str, Samples<T>),
    Histogram(&'static Bounds, fn(&T) -> Histogram),
}

type Samples<T> = fn(&T) -> Vec<(&'static str, u64)>;

impl<T> Metric<T> {
    /// A number.
    pub const fn new(name: &'static str, help: &'static str, get: fn(&T) -> u64) -> Self {
        let value = Value::Number(get);
        Self { name, help, value }
    }

    /// A time in seconds.
    pub const fn seconds(name: &'static str, help: &'static str, get: fn(&T) -> f64) -> Self {
        let value = Value::Seconds(get);
        Self { name, help, value }
    }

    /// A histogram with these bounds.
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        bounds: &'static Bounds,
        get: fn(&T) -> Histogram,
    ) -> Self {
        let value = Value::Histogram(bounds, get);
        Self { name, help, value }
    }

    /// A number for each value of `label`.
    pub const fn by(
        label: &'static str,
        name: &'static str,
        help: &'static str,
        get: Samples<T>,
    ) -> Self {
        let value = Value::ByLabel(label, get);
        Self { name, help, value }
    }
}

/// A part with a table of metrics.
pub trait Measured: Sized + 'static {
    /// The table.
    const METRICS: &'static [Metric<Self>];
}

/// A source of metrics for the page.
pub trait Source {
    /// Appends its metrics to the page.
    fn collect(&self, page: &mut String);
}

impl<T: Measured> Source for T {
    fn collect(&self, page: &mut String) {
        for Metric { name, help, value } in T::METRICS {
            let kind = match value {
                Value::Histogram(..) => "histogram",
                _ if name.ends_with("_total") => "counter",
                _ => "gauge",
            };
            *page += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            let mut sample = |value: &dyn Display| *page += &format!("{name} {value}\n");
            match value {
                Value::Number(get) => sample(&get(self)),
                Value::Seconds(get) => sample(&get(self)),
                Value::ByLabel(label, get) => {
                    for (text, count) in get(self) {
                        *page += &format!("{name}{{{label}=\"{text}\"}} {count}\n");
                    }
                }
                Value::Histogram(bounds, get) => get(self).write(name, bounds, page),
            }
        }
    }
}

impl Source for () {
    fn collect(&self, _page: &mut String) {}
}

impl<T: Measured> Source for Arc<T> {
    fn collect(&self, page: &mut String) {
        T::collect(self, page);
    }
}

impl<const N: usize> Source for [&dyn Source; N] {
    fn collect(&self, page: &mut String) {
        self.iter().for_each(|source| source.collect(page));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    /// A family of samples.
    pub(crate) struct Family {
        pub(crate) kind: String,
        /// Labels as they stand between the braces → value.
        pub(crate) samples: BTreeMap<String, String>,
    }

    /// Reads a page of metrics as strictly as the format is written: each family once, with its
    /// HELP and its TYPE in front and its samples together, no sample twice, every value a number.
    pub(crate) fn metrics_of(page: &str) -> BTreeMap<String, Family> {
        assert!(page.ends_with('\n'), "the last line has its end");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut helped = String::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty() && !families.contains_key(name), "{line}");
                helped = name.into();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                assert_eq!(name, helped, "HELP stands before TYPE");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let family = Family {
                    kind: kind.into(),
                    samples: BTreeMap::new(),
                };
                assert!(families.insert(name.into(), family).is_none(), "{line}");
                current = name.into();
            } else {
                let (name, labels, value) = sample_of(line);
                let family = families.get_mut(&current).expect("just inserted");
                let part = name.strip_prefix(&current);
                let part = part.expect("samples stand behind their TYPE");
                let parts: &[&str] = match family.kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(parts.contains(&part), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let labels = part.to_owned() + &labels;
                assert!(family.samples.insert(labels, value).is_none(), "{line}");
            }
        }
        families
    }

    /// Name, labels and value of a line.
    fn sample_of(line: &str) -> (String, String, String) {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let end = line.find(|c| !word(c)).expect("something behind the name");
        let (name, rest) = line.split_at(end);
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
        if let Some(value) = rest.strip_prefix(' ') {
            return (name.into(), String::new(), value.into());
        }
        let rest = rest.strip_prefix('{').expect("labels");
        let (label, text) = rest.split_once("=\"").expect("one label");
        assert!(label.chars().all(word), "{line}");
        let (text, value) = text.split_once("\"} ").expect("the label ends");
        assert!(!text.contains(['"', '\\']), "{line}");
        let labels = format!("{label}=\"{text}\"");
        let is_bound = name.ends_with("_bucket");
        let labels = if is_bound {
            format!("{{{labels}}}")
        } else {
            labels
        };
        (name.into(), labels, value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::metrics_of;
    use super::*;

    struct Sample(u64);

    const HALVES: Bounds = {
        let mut bounds = [0; BOUNDS];
        let mut place = 0;
        while place < BOUNDS {
            bounds[place] = 500_000_000 * (place as u64 + 1);
            place += 1;
        }
        bounds
    };

    struct Timed(Histogram);

    impl Measured for Timed {
        const METRICS: &'static [Metric<Self>] =
            &[Metric::histogram("t_seconds", "Times.", &HALVES, |it| it.0)];
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut timed = Timed(Histogram::default());
        for millis in [0, 500, 501, 6_000, 7_000] {
            timed.0.record(&HALVES, millis * 1_000_000);
        }
        let mut page = String::new();
        timed.collect(&mut page);
        let samples = &metrics_of(&page)["t_seconds"].samples;
        let bucket = |bound: &str| samples[&format!("_bucket{{le=\"{bound}\"}}")].clone();
        let bounds = ["0.5", "1", "5.5", "6", "+Inf"];
        assert_eq!(bounds.map(bucket), ["2", "3", "3", "4", "5"]);
        assert_eq!([&samples["_sum"], &samples["_count"]], ["14.001", "5"]);
        assert_eq!(samples.len(), BOUNDS + 3);
    }

    impl Measured for Sample {
        const METRICS: &'static [Metric<Self>] = &[
            Metric::new("a_total", "A count.", |sample| sample.0),
            Metric::seconds("b", "A time.", |sample| sample.0 as f64 / 2.0),
            Metric::by("l", "c", "By label.", |sample| {
                vec![("x", sample.0), ("y", 2)]
            }),
        ];
    }

    struct Other;

    impl Measured for Other {
        const METRICS: &'static [Metric<Self>] = &[Metric::new("d", "Other.", |_| 7)];
    }

    #[test]
    fn a_table_is_written_in_its_order() {
        let mut page = String::new();
        Sample(1).collect(&mut page);
        assert_eq!(
            page,
            "# HELP a_total A count.\n# TYPE a_total counter\na_total 1\n\
             # HELP b A time.\n# TYPE b gauge\nb 0.5\n\
             # HELP c By label.\n# TYPE c gauge\nc{l=\"x\"} 1\nc{l=\"y\"} 2\n"
        );
    }

    #[test]
    fn sources_follow_one_another() {
        let mut page = String::new();
        let sources: [&dyn Source; 3] = [&Sample(1), &(), &Arc::new(Other)];
        sources.collect(&mut page);
        let families = metrics_of(&page);
        assert_eq!(families["b"].samples[""], "0.5");
        assert_eq!(families["d"].kind, "gauge");
    }
}
