//! The picker.

use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::own::{Look, Remembered};
use super::pool::{Answer, Pool};
use super::probing::Probing;
use super::reuse::{mean_uses, round_at_random};
use super::threshold::Threshold;
use super::{PrequalConfig, ProbeAnswer, ProbeCounts, ProbeSource};
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::Candidates;
use crate::endpoint::Endpoint;
use crate::policy::estimate::{Estimate, Estimates, Learned, Rise};
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

/// Of the probes of silent endpoints, every so many-th is sent none the less: to hear when they have learned to answer. Which
/// endpoint that is, is random anyway.
const ASK_SILENT: u32 = 16;

/// Calls after which the mean number of uses is computed anew: the measured answers per call change by a hundredth per call.
const USES_STRIDE: u32 = 16;

/// How much one call changes the measured number of answers per call.
const ANSWERED_GAIN: f64 = 0.01;

/// The time constant of the proxy's own measurements, which stand in for answers.
const OWN_DECAY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Prequal {
    config: PrequalConfig,
    slow_start: Option<SlowStart>,
    pool: Pool,
    remembered: Remembered,
    threshold: Threshold,
    probing: Probing,
    /// Of each endpoint's latency per request in flight that the call met.
    estimates: Estimates,
    /// Probes due, less than 1 after each call: what is left of a fraction.
    probes_due: f64,
    /// Removals due, likewise.
    removals_due: f64,
    removals_per_answer: f64,
    /// Answers since the last call.
    answers: u32,
    /// A moving average of it.
    answered_per_call: f64,
    /// How often a probe is used on average, as of the last time it was computed.
    mean_uses: f64,
    /// Calls until it is computed again.
    calls_until_uses: u32,
    /// Probes of silent endpoints since one was sent.
    unsent: u32,
    /// Room for the positions that a call draws; what is in it means nothing between calls.
    drawn: [u32; PrequalConfig::MAX_POOL_SIZE],
}

/// What there is of a candidate.
#[derive(Clone, Copy)]
struct Seen {
    position: usize,
    slot: Slot,
    in_flight: u32,
    weight: u32,
    estimate: Estimate,
}

impl Prequal {
    pub(crate) fn new(config: PrequalConfig, slow_start: Option<SlowStart>) -> Self {
        Self {
            config,
            slow_start,
            pool: Pool::new(config.pool_size()),
            remembered: Remembered::default(),
            threshold: Threshold::new(config.rif_quantile.get()),
            probing: Probing::new(&config),
            estimates: Estimates::new(Rise::Mean, OWN_DECAY),
            probes_due: 0.0,
            removals_due: 0.0,
            removals_per_answer: removals_per_answer(&config),
            answers: 0,
            answered_per_call: config.probes_per_call.get(),
            mean_uses: 1.0,
            calls_until_uses: 0,
            unsent: 0,
            drawn: [0; PrequalConfig::MAX_POOL_SIZE],
        }
    }

    /// Reads what there is of a candidate, and reckons nothing yet: of several, the reads overlap then, most of them cache
    /// misses when there are thousands of endpoints.
    #[inline]
    fn see(&self, candidates: &Candidates, position: usize) -> Seen {
        let candidate = candidates.get(position);
        Seen {
            position,
            slot: candidate.slot,
            in_flight: candidate.endpoint.in_flight(),
            weight: candidate.weight,
            estimate: self.estimates.get(candidate.slot.index()),
        }
    }

    /// What the proxy itself knows of a candidate.
    #[inline]
    fn own(&self, seen: &Seen, now: Duration) -> Answer {
        let reading = self.estimates.read(&seen.estimate, now);
        let in_flight = f64::from(seen.in_flight);
        Answer {
            in_flight,
            latency_ns: reading.latency_ns * (in_flight + 1.0),
            inverse_weight: 1.0 / f64::from(seen.weight),
            penalty: reading.penalty,
        }
    }

    /// Takes an answer into the pool, unless the endpoint warms up and does not take part.
    fn take(
        &mut self,
        candidates: &Candidates,
        seen: &Seen,
        answer: &Answer,
        now: Duration,
        rng: &mut SmallRng,
    ) {
        self.threshold.observe(answer.plain_load());
        if !candidates.takes_part(seen.position, self.slow_start.as_ref(), now, rng) {
            return;
        }
        let uses = round_at_random(self.mean_uses, rng);
        self.pool.insert(answer.probe(seen.slot, uses, now));
        self.answers += 1;
        self.removals_due += self.removals_per_answer;
        while self.removals_due >= 1.0 {
            self.removals_due -= 1.0;
            // Two are needed to choose between. With few endpoints answers replace each other, and nothing degrades.
            if self.pool.len() > 2 {
                self.pool.forget_one(&self.threshold);
            }
        }
    }

    /// Takes note of a call: of how many answers came since the last.
    fn note_call(&mut self, candidates: usize) {
        let answers = f64::from(core::mem::take(&mut self.answers));
        self.answered_per_call += (answers - self.answered_per_call) * ANSWERED_GAIN;
        if self.calls_until_uses == 0 {
            self.calls_until_uses = USES_STRIDE;
            self.mean_uses = mean_uses(&self.config, candidates, self.answered_per_call);
        }
        self.calls_until_uses -= 1;
    }

    fn choose(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> usize {
        if self.pool.len() >= 2
            && let Some((index, slot)) = self.pool.best(&self.threshold)
        {
            self.pool.used(index);
            return candidates.position(slot).expect("the pool holds candidates only");
        }
        self.choose_by_own(candidates, now, rng)
    }

    /// The best of two random candidates and of those remembered, by what the proxy knows of each at this moment.
    fn choose_by_own(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> usize {
        let Some(drawn) = two_distinct(candidates.len(), rng) else { return 0 };
        let slow_start = self.slow_start.as_ref();
        let mut takes_part = |position: usize| candidates.takes_part(position, slow_start, now, rng);
        // One that warms up and is not drawn comes last: it is chosen where all do.
        let drawn = drawn.map(|position| (position, takes_part(position)));
        let [first, second] = self.remembered.positions(candidates, drawn.map(|(position, _)| position));
        let mut remembered = |(position, is_another)| (position, is_another && takes_part(position));
        let all = [drawn[0], drawn[1], remembered(first), remembered(second)];
        let seen = all.map(|(position, _)| self.see(candidates, position));
        let answers = seen.each_ref().map(|seen| self.own(seen, now));
        let looks = core::array::from_fn(|index| {
            let stands_back = u64::from(!all[index].1).wrapping_neg();
            let rank = answers[index].rank(&self.threshold) | stands_back;
            Look { rank, position: seen[index].position, slot: seen[index].slot }
        });
        // One drawn at random tells what is usual; those remembered are better than that.
        self.threshold.observe(answers[0].plain_load());
        self.remembered.keep_best(&looks)
    }

    /// Draws what this call triggers, without replacement, and probes it; or, where it does not answer, looks at what the
    /// proxy knows.
    fn trigger(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) {
        let len = self.add_probes_due(candidates, self.config.probes_per_call.get());
        let mut count = 0;
        while self.probes_due >= 1.0 {
            self.probes_due -= 1.0;
            // What was drawn before gives way to the next. Ends, as there are more candidates.
            let mut position = rng.random_range(0..len);
            while self.drawn[..count].contains(&position) {
                position = if position + 1 == len { 0 } else { position + 1 };
            }
            self.drawn[count] = position;
            count += 1;
            let slot = candidates.get(position as usize).slot;
            if self.probing.is_silent(slot) {
                let seen = self.see(candidates, position as usize);
                self.take(candidates, &seen, &self.own(&seen, now), now, rng);
                if !self.is_asked_anyway() {
                    continue;
                }
            }
            self.probing.want(slot, now);
        }
    }

    /// While no endpoint answers, one of every so many probes is sent none the less.
    fn ask_silent(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) {
        let asked_per_call = self.config.probes_per_call.get() * (1.0 / f64::from(ASK_SILENT));
        let len = self.add_probes_due(candidates, asked_per_call);
        while self.probes_due >= 1.0 {
            self.probes_due -= 1.0;
            // Where nobody sends probes, no candidate is read in vain.
            if self.probing.has_room() {
                let position = rng.random_range(0..len);
                self.probing.want(candidates.get(position as usize).slot, now);
            }
        }
    }

    /// Adds to the probes due, of which no more are due at once than there are candidates, or than a pool holds. Returns the number of
    /// candidates.
    fn add_probes_due(&mut self, candidates: &Candidates, number: f64) -> u32 {
        let len = u32::try_from(candidates.len()).expect("slots are numbered by u32");
        let most = f64::from(len).min(self.config.pool_size() as f64);
        self.probes_due = (self.probes_due + number).min(most + 0.999);
        len
    }

    /// Whether a silent endpoint is asked none the less.
    fn is_asked_anyway(&mut self) -> bool {
        self.unsent += 1;
        if self.unsent < ASK_SILENT {
            return false;
        }
        self.unsent = 0;
        true
    }
}

/// Removals go by the answers, of which there should be as many per call as there are probes.
fn removals_per_answer(config: &PrequalConfig) -> f64 {
    let probes = config.probes_per_call.get();
    // Bounded by one: nothing comes of more.
    if probes > 0.0 { (config.removals_per_call.get() / probes).min(1.0) } else { 0.0 }
}

impl Picker for Prequal {
    fn reserve(&mut self, slots: usize, _weights: &mut dyn Iterator<Item = u32>) {
        self.estimates.reserve(slots);
        self.probing.reserve(slots);
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, _rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.estimates.added(candidate.slot.index(), &candidate.endpoint);
        self.probing.added(candidate.slot);
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        let slot = candidates.get(position).slot;
        self.pool.remove(slot);
        self.probing.removed(slot);
        position
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        if candidates.len() == 1 {
            return Verdict::At(0);
        }
        let now = ask.now;
        if self.config.source == ProbeSource::Own {
            return Verdict::At(self.choose_by_own(candidates, now, rng));
        }
        self.probing.called(now);
        self.pool.expire(now.saturating_sub(self.config.max_age));
        if self.probing.are_silent(now, self.config.max_age) {
            let position = self.choose_by_own(candidates, now, rng);
            self.ask_silent(candidates, now, rng);
            return Verdict::At(position);
        }
        self.note_call(candidates.len());
        let position = self.choose(candidates, now, rng);
        self.trigger(candidates, now, rng);
        Verdict::At(position)
    }

    /// A call leaves about as many behind as it met (in a stable queue the two have the same distribution), and that spares
    /// remembering the number for each call.
    fn finished(&mut self, slot: Slot, endpoint: &Endpoint, report: &CallReport) {
        let met = f64::from(endpoint.in_flight()) + 1.0;
        if self.estimates.observe(slot.index(), report, met) {
            let estimate = self.estimates.get(slot.index());
            let penalty = self.estimates.read(&estimate, report.now).penalty;
            self.pool.set_penalty(slot, penalty);
        }
    }

    fn learned(&self, slot: Slot, endpoint: &Endpoint, now: Duration) -> Option<Learned> {
        self.estimates.learned(slot.index(), endpoint, now)
    }

    fn poll_probe(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> Option<Slot> {
        let random =
            || (candidates.len() > 1).then(|| candidates.get(rng.random_range(0..candidates.len())).slot);
        self.probing.poll(now, random)
    }

    fn probe_deadline(&self) -> Option<Duration> {
        self.probing.deadline()
    }

    fn probe_answered(
        &mut self,
        candidates: &Candidates,
        slot: Slot,
        answer: &ProbeAnswer,
        now: Duration,
        rng: &mut SmallRng,
    ) {
        if !self.probing.answered(slot, now) {
            return;
        }
        // What is under way is forgotten when the endpoint is a candidate no more.
        let Some(position) = candidates.position(slot) else { return };
        let seen = self.see(candidates, position);
        let own = self.own(&seen, now);
        let latency_ns = answer.latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e9);
        let answer = Answer {
            // The proxy's own calls are at the endpoint, or on their way: fewer is not true, or not true for long.
            in_flight: f64::from(answer.requests_in_flight).max(own.in_flight),
            latency_ns: if latency_ns > 0.0 { latency_ns } else { own.latency_ns },
            ..own
        };
        self.take(candidates, &seen, &answer, now, rng);
    }

    fn probe_failed(&mut self, slot: Slot) {
        self.probing.failed(slot);
    }

    fn probe_counts(&self) -> ProbeCounts {
        self.probing.counts
    }

    fn probe_pool(&self) -> usize {
        self.pool.len()
    }
}
