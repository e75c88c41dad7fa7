//! The testbed of Prequal (Wydrowski and others, "Load is not what you should balance", NSDI 2024, section 5) in simulated
//! time, around real balancers.
//!
//! # Model
//! - *Servers*, each with an allocation on a machine of its own ([`MACHINE`] allocations large) beside other jobs, the
//!   antagonists. While these want the rest of the machine, the server gets its allocation, and is slowed down by what it
//!   still shares with them; else it gets what they leave. Every other server has older hardware and takes longer for each
//!   call. Calls share the server's cores fairly; one takes a core at most.
//! - *Calls* arrive by a Poisson process, each from a random client, and need work as the paper's: a normal distribution
//!   with its mean as the standard deviation, negative work counting as none. One not answered within the deadline fails, and
//!   the server drops it.
//! - *Clients* know what they saw themselves, the load reports that come with answers (ORCA), and the answers to probes.
//!
//! Load 1.0 is what the allocations of all servers do when nothing is lost. Everything follows from the seed, and calls and
//! antagonists from the seed and the load alone: policies are compared by the same ones.

mod server;
mod world;

use core::time::Duration;

use evenkeel_balance::{LoadWeightConfig, PeakEwmaConfig, Policy, PrequalConfig};

use self::world::World;

/// A machine's size, in allocations: the paper's servers have a tenth of a machine.
const MACHINE: f64 = 10.0;

/// The loads of the paper's figure 6.
pub(crate) const RAMP: [f64; 9] = [0.75, 0.83, 0.93, 1.03, 1.14, 1.27, 1.41, 1.57, 1.74];

/// Everything but policy, load and seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Testbed {
    pub(crate) servers: usize,
    /// Each with a balancer of its own.
    pub(crate) clients: usize,
    /// Cores of an allocation.
    pub(crate) cores: f64,
    /// How many times longer calls take on older hardware, that of every other server.
    pub(crate) slowdown: f64,
    /// The share of the time in which antagonists leave a server nothing but its allocation.
    pub(crate) contended: f64,
    /// How long that lasts on average.
    pub(crate) contended_for: Duration,
    /// How many times longer calls take meanwhile, by what isolation does not keep apart: caches, memory, hardware threads.
    pub(crate) interference: f64,
    /// What a server gets in between, in allocations: something from the one to the other.
    pub(crate) spare: (f64, f64),
    /// A call's mean work on newer hardware, before negative work is cut off.
    pub(crate) work: Duration,
    pub(crate) deadline: Duration,
    /// How far back a server's load reports look.
    pub(crate) report_window: Duration,
    /// Not counted, while policies learn.
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

impl Default for Testbed {
    /// The paper's 100 clients, 100 servers and deadline. It does not say what its antagonists do, nor how large an allocation
    /// is; these make the latencies and the errors of weighted round robin resemble the paper's.
    fn default() -> Self {
        Self {
            servers: 100,
            clients: 100,
            cores: 5.0,
            slowdown: 2.0,
            contended: 0.7,
            contended_for: Duration::from_secs(20),
            interference: 1.25,
            spare: (5.0, 9.0),
            work: Duration::from_millis(40),
            deadline: Duration::from_secs(5),
            report_window: Duration::from_secs(5),
            warm_up: Duration::from_secs(20),
            time: Duration::from_secs(20),
        }
    }
}

impl Testbed {
    /// With half as many servers and clients, for half the time.
    pub(crate) fn small() -> Self {
        let time = Duration::from_secs(10);
        Self { servers: 50, clients: 50, time, ..Self::default() }
    }

    /// Sends this load by this policy.
    pub(crate) fn run(&self, policy: Policy, load: f64, seed: u64) -> Figures {
        World::new(*self, policy, load, seed).run()
    }

    /// How much longer a call takes on this server than on the newest hardware.
    fn slowdown_of(&self, server: usize) -> f64 {
        if server % 2 == 1 { self.slowdown } else { 1.0 }
    }

    /// Calls a second at load 1.0.
    fn capacity(&self) -> f64 {
        // The mean of a normal distribution with equal mean and standard deviation, cut off below 0, in its means.
        const CUT_OFF: f64 = 1.083_316;
        self.allocated() / (self.work.as_secs_f64() * CUT_OFF)
    }

    /// All allocations, in cores of the newest hardware.
    fn allocated(&self) -> f64 {
        (0..self.servers).map(|server| self.cores / self.slowdown_of(server)).sum()
    }
}

/// What became of the calls of one run.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Figures {
    /// In ascending order; a call that failed counts with its deadline.
    pub(crate) latencies: Vec<Duration>,
    /// Calls not answered within the deadline.
    pub(crate) errors: usize,
    /// The largest load that the servers could have served at every moment, whatever the policy.
    pub(crate) least_capacity: f64,
}

impl Figures {
    /// The smallest latency that at least this share of the calls does not exceed.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * quantile).ceil() as usize;
        self.latencies[rank.clamp(1, self.latencies.len()) - 1]
    }

    /// The share of the calls that failed.
    pub(crate) fn error_share(&self) -> f64 {
        self.errors as f64 / self.latencies.len() as f64
    }
}

// The policies compared.

pub(crate) const PREQUAL: Compared = Compared("prequal", || Policy::Prequal(PrequalConfig::default()));
pub(crate) const WEIGHTED_ROUND_ROBIN: Compared =
    Compared("weighted_round_robin", || Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()));
pub(crate) const LEAST_REQUEST: Compared = Compared("least_request", Policy::default);
pub(crate) const PEAK_EWMA: Compared = Compared("peak_ewma", || Policy::PeakEwma(PeakEwmaConfig::default()));

/// A policy with its defaults, by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared(pub(crate) &'static str, fn() -> Policy);

impl Compared {
    pub(crate) fn policy(self) -> Policy {
        (self.1)()
    }
}
