//! Resources that a server used in a run, read from `/proc`.

use serde::Serialize;

use crate::bench::proc::Sample;
use crate::time::Span;

/// One thread of the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadUse {
    /// Its name.
    pub name: String,
    /// CPU while connecting, in seconds.
    pub connecting_cpu_s: f64,
    /// CPU while heartbeats were sent, in seconds.
    pub beating_cpu_s: f64,
}

/// Resources that the server used, read from `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerUse {
    /// Process id.
    pub pid: u32,
    /// CPU of the loop thread per heartbeat.
    pub loop_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the store thread per heartbeat.
    pub store_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of all threads per heartbeat.
    pub cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the loop thread per connection: accept, hello and its reply.
    pub loop_cpu_us_per_connection: Option<f64>,
    /// CPU of the store thread per connection.
    pub store_cpu_us_per_connection: Option<f64>,
    /// CPU of all threads per connection.
    pub cpu_us_per_connection: Option<f64>,
    /// Resident memory before the first connection.
    pub resident_bytes_before: u64,
    /// Resident memory when all were connected, before heartbeats; with `--idle` after the first
    /// silence.
    pub resident_bytes_connected: u64,
    /// Resident memory at the end, still connected; with `--idle` after the second silence.
    pub resident_bytes_after: u64,
    /// Growth of memory per connection until all were connected; `null` without growth, and where
    /// connections come and go.
    pub memory_bytes_per_connection: Option<f64>,
    /// Growth of memory per connection until the end.
    pub memory_bytes_per_connection_after: Option<f64>,
    /// The server was at rest before the first connection, before the heartbeats and at the end.
    /// Otherwise the figures include other work.
    pub rested: bool,
    /// The threads, the loop first.
    pub threads: Vec<ThreadUse>,
}

impl ServerUse {
    /// Computes the use between three samples: before connecting, connected, after the heartbeats.
    /// In that time `made` connections were established, `held` of them kept, and the heartbeats
    /// sent.
    #[must_use]
    pub fn between(pid: u32, samples: &[Sample; 3], made: u64, held: u64, sent: u64) -> Self {
        let [before, connected, after] = samples;
        let threads = threads(pid, samples);
        let of = |name: &str, part: fn(&ThreadUse) -> f64| {
            let named = threads.iter().skip(1).filter(|thread| thread.name == name);
            named.map(part).sum::<f64>()
        };
        let connecting: fn(&ThreadUse) -> f64 = |thread| thread.connecting_cpu_s;
        let beating: fn(&ThreadUse) -> f64 = |thread| thread.beating_cpu_s;
        let first = |part: fn(&ThreadUse) -> f64| threads.first().map_or(0.0, part);
        let all = |part: fn(&ThreadUse) -> f64| threads.iter().map(part).sum::<f64>();
        let per = |seconds: f64, count: u64| (count > 0).then(|| seconds * 1e6 / count as f64);
        let each = |to: &Sample| a_connection(before.resident, to.resident, held);
        Self {
            pid,
            loop_cpu_us_per_heartbeat: per(first(beating), sent),
            store_cpu_us_per_heartbeat: per(of(STORE, beating), sent),
            cpu_us_per_heartbeat: per(all(beating), sent),
            loop_cpu_us_per_connection: per(first(connecting), made),
            store_cpu_us_per_connection: per(of(STORE, connecting), made),
            cpu_us_per_connection: per(all(connecting), made),
            resident_bytes_before: before.resident,
            resident_bytes_connected: connected.resident,
            resident_bytes_after: after.resident,
            memory_bytes_per_connection: each(connected),
            memory_bytes_per_connection_after: each(after),
            rested: true,
            threads,
        }
    }

    /// Counts the memory of connections from another baseline.
    pub fn measure_from(&mut self, resident_bytes_before: u64, made: u64) {
        self.resident_bytes_before = resident_bytes_before;
        let each = |to| a_connection(resident_bytes_before, to, made);
        self.memory_bytes_per_connection = each(self.resident_bytes_connected);
        self.memory_bytes_per_connection_after = each(self.resident_bytes_after);
    }
}

/// Growth of memory per connection; `None` if earlier free memory was enough.
fn a_connection(before: u64, to: u64, held: u64) -> Option<f64> {
    let grown = to.checked_sub(before).filter(|grown| *grown > 0)?;
    (held > 0).then(|| grown as f64 / held as f64)
}

/// Name of the server's store thread.
const STORE: &str = "store";

/// Use of each thread, the main thread first.
fn threads(pid: u32, [before, connected, after]: &[Sample; 3]) -> Vec<ThreadUse> {
    let used = |id: &u32, from: &Sample, to: &Sample| {
        let at = |sample: &Sample| {
            sample
                .threads
                .get(id)
                .map_or(Span::ZERO, |thread| thread.cpu)
        };
        at(to).as_secs_f64() - at(from).as_secs_f64()
    };
    let mut ids: Vec<&u32> = after.threads.keys().collect();
    ids.sort_by_key(|id| (**id != pid, **id));
    let one = |id: &u32| ThreadUse {
        name: after.threads[id].name.clone(),
        connecting_cpu_s: used(id, before, connected),
        beating_cpu_s: used(id, connected, after),
    };
    ids.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proc::Thread;

    fn sample(loop_ms: u64, store_ms: u64, resident: u64) -> Sample {
        let thread = |name: &str, ms| Thread {
            name: name.to_owned(),
            cpu: Span::from_millis(ms),
        };
        Sample {
            threads: [
                (9, thread("store", store_ms)),
                (7, thread("anthill", loop_ms)),
            ]
            .into(),
            resident,
        }
    }

    #[test]
    fn server_use_is_split_by_thread() {
        let samples = [
            sample(10, 5, 1_000),
            sample(30, 15, 3_000),
            sample(80, 16, 3_500),
        ];
        let used = ServerUse::between(7, &samples, 10, 10, 1_000);
        assert_eq!(used.threads[0].name, "anthill");
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-6;
        assert!(near(used.loop_cpu_us_per_heartbeat, 50.0), "{used:?}");
        assert!(near(used.store_cpu_us_per_heartbeat, 1.0), "{used:?}");
        assert!(near(used.cpu_us_per_heartbeat, 51.0), "{used:?}");
        assert!(near(used.loop_cpu_us_per_connection, 2_000.0), "{used:?}");
        assert!(near(used.store_cpu_us_per_connection, 1_000.0), "{used:?}");
        assert!(near(used.memory_bytes_per_connection, 200.0), "{used:?}");
        let [before, _, after] = samples.clone();
        let shrunk = ServerUse::between(7, &[after.clone(), before, after], 10, 10, 0);
        assert_eq!(shrunk.memory_bytes_per_connection, None, "{shrunk:?}");
        assert_eq!(shrunk.memory_bytes_per_connection_after, None);
        let nothing = ServerUse::between(7, &samples, 0, 0, 0);
        assert_eq!(nothing.cpu_us_per_heartbeat, None);
        assert_eq!(nothing.memory_bytes_per_connection, None);
    }
}
