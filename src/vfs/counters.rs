//! What a mount is asked, and how long its answers take.
//!
//! Owns: the kinds of requests and, for each, a histogram of the time from the
//! request's arrival to its answer. Invariants: always on, so it costs two readings
//! of the clock and three additions a request; a request is counted before it is
//! answered and timed after; a quantile is the upper edge of its bucket, at most a
//! quarter above the truth. Never keeps what was asked about.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// The kinds of requests, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Lookup,
    Forget,
    Getattr,
    Setattr,
    Readlink,
    Mknod,
    Mkdir,
    Unlink,
    Rmdir,
    Symlink,
    Rename,
    Link,
    Open,
    Read,
    Write,
    Fsync,
    Readdir,
    Readdirplus,
    Statfs,
    Xattr,
    Create,
    Fallocate,
    Lseek,
    CopyFileRange,
    Other,
}

const OPS: [(Op, &str); 25] = [
    (Op::Lookup, "lookup"),
    (Op::Forget, "forget"),
    (Op::Getattr, "getattr"),
    (Op::Setattr, "setattr"),
    (Op::Readlink, "readlink"),
    (Op::Mknod, "mknod"),
    (Op::Mkdir, "mkdir"),
    (Op::Unlink, "unlink"),
    (Op::Rmdir, "rmdir"),
    (Op::Symlink, "symlink"),
    (Op::Rename, "rename"),
    (Op::Link, "link"),
    (Op::Open, "open"),
    (Op::Read, "read"),
    (Op::Write, "write"),
    (Op::Fsync, "fsync"),
    (Op::Readdir, "readdir"),
    (Op::Readdirplus, "readdirplus"),
    (Op::Statfs, "statfs"),
    (Op::Xattr, "xattr"),
    (Op::Create, "create"),
    (Op::Fallocate, "fallocate"),
    (Op::Lseek, "lseek"),
    (Op::CopyFileRange, "copy-file-range"),
    (Op::Other, "other"),
];

/// Buckets within one power of two.
const STEPS: u64 = 4;
const STEP_BITS: u32 = 2;
/// The first bucket is everything up to this many nanoseconds (a power of two).
const FLOOR_BITS: u32 = 8;
/// From 256 ns to over four minutes.
const BUCKETS: usize = 120;

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    count: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        }
    }
}

/// Returns the bucket of a time.
fn bucket(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    if power < FLOOR_BITS {
        return 0;
    }
    let step = nanos >> (power - STEP_BITS) & (STEPS - 1);
    let at = u64::from(power - FLOOR_BITS) * STEPS + step;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// Returns the first time that is beyond a bucket.
fn edge(bucket: usize) -> u64 {
    let at = bucket as u64;
    let power = at / STEPS + u64::from(FLOOR_BITS);
    (STEPS + at % STEPS + 1) << (power - u64::from(STEP_BITS))
}

impl Histogram {
    /// Counts what took so long.
    pub fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.took(took);
    }

    fn took(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns how long it took so far; nothing if it never happened.
    pub fn latency(&self) -> Option<Latency> {
        let counts: Vec<u64> = (self.buckets.iter())
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let count = self.count.load(Ordering::Relaxed);
        let timed: u64 = counts.iter().sum();
        let nanos = self.nanos.load(Ordering::Relaxed);
        let quantile = |percent: u64| {
            let wanted = (timed * percent).div_ceil(100);
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            edge(at.unwrap_or(BUCKETS - 1))
        };
        (count > 0).then(|| Latency {
            count,
            mean_ns: nanos.checked_div(timed).unwrap_or(0),
            p50_ns: quantile(50),
            p99_ns: quantile(99),
        })
    }
}

/// How long the answers of one kind took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub count: u64,
    pub mean_ns: u64,
    /// At least half of them took no longer.
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl Latency {
    /// Returns the times as they stand behind a name and a count.
    pub fn times(&self) -> String {
        let Self {
            mean_ns,
            p50_ns,
            p99_ns,
            ..
        } = self;
        format!("mean_ns {mean_ns} p50_ns {p50_ns} p99_ns {p99_ns}")
    }
}

/// How many requests of each kind came, and how long they took.
#[derive(Debug)]
pub struct Counters {
    ops: [Histogram; OPS.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            ops: std::array::from_fn(|_| Histogram::default()),
        }
    }
}

/// A request that is being answered; it has taken its time when this is dropped.
pub(crate) struct Timed<'a> {
    histogram: &'a Histogram,
    begun: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.histogram.took(self.begun.elapsed());
    }
}

impl Counters {
    /// Counts a request of this kind, and times it until what is returned is dropped.
    pub(crate) fn time(&self, op: Op) -> Timed<'_> {
        let histogram = &self.ops[op as usize];
        histogram.count.fetch_add(1, Ordering::Relaxed);
        Timed {
            histogram,
            begun: Instant::now(),
        }
    }

    /// Returns the kinds that came at all, with how long they took.
    pub fn latencies(&self) -> Vec<(&'static str, Latency)> {
        let all = OPS.iter();
        all.filter_map(|(op, name)| Some((*name, self.ops[*op as usize].latency()?)))
            .collect()
    }

    /// Returns the requests that somebody waited for: all but forgets.
    pub fn waited(&self) -> u64 {
        let all = OPS.iter().filter(|(op, _)| *op != Op::Forget);
        all.map(|(op, _)| self.ops[*op as usize].count.load(Ordering::Relaxed))
            .sum()
    }

    /// Writes one line a kind: its count and its times in nanoseconds.
    pub fn lines(&self) -> String {
        let lines = self.latencies().into_iter().map(|(name, latency)| {
            let (count, times) = (latency.count, latency.times());
            format!("{name} {count} {times}\n")
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_the_bucket_that_ends_after_it() {
        for nanos in [0, 1, 255, 256, 319, 320, 1000, 40_000, 1 << 30] {
            let at = bucket(nanos);
            assert!(nanos < edge(at), "{nanos}");
            assert!(at == 0 || nanos >= edge(at - 1), "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_what_was_counted_and_a_quarter_above_at_most() {
        let counters = Counters::default();
        let histogram = &counters.ops[Op::Write as usize];
        for micros in 1..=100 {
            histogram.add(Duration::from_micros(micros));
        }
        let all = counters.latencies();
        let [("write", latency)] = all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((latency.count, latency.mean_ns), (100, 50_500));
        assert!((50_000..=62_500).contains(&latency.p50_ns), "{latency:?}");
        assert!((99_000..=123_750).contains(&latency.p99_ns), "{latency:?}");
        assert_eq!(counters.waited(), 100);
        drop(counters.time(Op::Forget));
        assert_eq!(counters.waited(), 100);
        assert!(counters.lines().starts_with("forget 1 mean_ns "));
    }
}
