//! Figures in lines and in the table at the end.

use std::{fmt, time::Duration};

use crate::locks::Kind;

/// Durations in ascending order.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    pub fn median(&self) -> f64 {
        micros(self.percentile(50))
    }

    pub fn mean(&self) -> f64 {
        micros(self.0.iter().sum()) / self.0.len() as f64
    }

    pub fn max(&self) -> f64 {
        micros(self.percentile(100))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// One line of a latency: its percentiles, and how many times the yardstick's median it takes.
pub fn line(what: &str, times: &Times, yardstick: &Times) {
    println!(
        "  {what:<28} p50 {:>9.1?}  p99 {:>9.1?}  p50 = {:>7.2} x PING  ({} times)",
        times.percentile(50),
        times.percentile(99),
        times.median() / yardstick.median(),
        times.len()
    );
}

/// What was measured, one row for each figure.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    what: String,
    /// In the order of [`Kind::ALL`].
    values: [f64; 3],
    /// The median of `PING` in the same unit, where it is one.
    ping: Option<f64>,
}

impl Table {
    pub fn push(&mut self, what: String, value: impl Fn(Kind) -> f64, ping: Option<f64>) {
        self.0.push(Row { what, values: Kind::ALL.map(value), ping });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, rslock, eager] = Kind::ALL.map(Kind::name);
        writeln!(f, "| | {ours} | {rslock} | {eager} | {ours} / {rslock} | {ours} / {eager} | {ours} / PING |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|")?;
        for Row { what, values: [ours, rslock, eager], ping } in &self.0 {
            let ping = ping.map(|ping| format!("{:.2}", ours / ping)).unwrap_or_default();
            let (beside, at_best) = (ours / rslock, ours / eager);
            writeln!(f, "| {what} | {ours:.1} | {rslock:.1} | {eager:.1} | {beside:.3} | {at_best:.3} | {ping} |")?;
        }
        Ok(())
    }
}
