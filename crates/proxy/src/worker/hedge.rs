//! Hedging: further attempts of a call while the first ones still run, by the rules of [`evenkeel_balance::retry::HedgeState`].
//!
//! One attempt of a hedged call is its main one, which the rest of the worker knows as the call's upstream stream. The others are
//! kept here, and whichever has something to say is made the main one first: an answer is then read, judged and forwarded
//! by the code that every call has. Response headers decide the call ([`Worker::decide_hedges`]), as does a status that is
//! fatal; the attempts that still run are cancelled, within the same wake-up.
//!
//! Rule: a further attempt is sent only when the whole request is there and fits the replay buffer, and only to an endpoint
//! that has none of the call's attempts and a connection with room. It never waits for one: a hedge that queues would come
//! when it is of no use. What could not be sent is tried again after another delay.
//!
//! Invariant: all streams of a call have its token, and at most one of them is on any connection, since each attempt that runs
//! has an endpoint of its own.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::retry::{HedgeDecision, HedgeState, Moment, StopReason};
use evenkeel_balance::{Ask, AttemptEnd, Outcome, Pick, Slot};
use evenkeel_grpc::Code;
use evenkeel_http2::field::FieldBlock;
use evenkeel_telemetry::{ClusterEvent, Hedged, ResponseFlag, RetryDenied};

use super::Worker;
use super::answer::AnswerTime;
use super::attempt::{OwnFields, Unwanted};
use super::call::{Call, CallPhase, Leg};
use super::call_timer::Staller;
use super::conn::ConnId;
use super::finish::{Ending, outcome_of};
use super::limit::Holding;
use super::retried::Last;
use super::retry::{denied, event};
use super::snapshot::{HedgeSettings, RetryGates};

/// What a hedged call has besides.
#[derive(Debug)]
pub(super) struct Hedging {
    settings: Arc<HedgeSettings>,
    gates: Arc<RetryGates>,
    /// Made when the first attempt is sent.
    state: Option<HedgeState>,
    /// The number of the main attempt.
    main: u8,
    /// The attempts that run beside the main one: at most [`MAX_ATTEMPTS`](evenkeel_balance::retry::MAX_ATTEMPTS) - 1.
    others: Vec<Attempt>,
    /// How the last attempt ended, while none runs, until the next one is sent.
    last: Option<LastAnswer>,
}

/// How an attempt ended that may be the last one. Bound: one header list, which is as large as a backend's may be.
#[derive(Debug)]
struct LastAnswer {
    code: Code,
    /// `None` if it ended without an answer.
    answer: Option<Last>,
}

/// What is left to do for a hedged call that response headers decided, where its cluster has a throttle: a call that succeeds
/// gives back what failures took (gRFC A6), and only trailers say that it does.
#[derive(Debug)]
pub(super) struct HedgedAnswer {
    settings: Arc<HedgeSettings>,
    gates: Arc<RetryGates>,
}

impl HedgedAnswer {
    /// The answer ended so.
    pub(super) fn ended(self, end: &AttemptEnd) {
        HedgeState::answer_ended(&self.settings.policy, self.gates.gates(), end);
    }
}

/// How the attempts end that still run when a hedged call is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Losers {
    /// The main attempt answered, and they did not.
    Slower,
    /// In this way, all of them.
    All(AttemptEnd),
}

impl Losers {
    /// The end of one that was sent then; so was the main attempt.
    fn end(self, sent_at: Duration, main_sent_at: Duration) -> AttemptEnd {
        match self {
            Self::Slower => AttemptEnd::Overtaken { by_later: sent_at < main_sent_at },
            Self::All(end) => end,
        }
    }
}

/// An attempt beside the main one; the fields are those that a call has of its main one.
#[derive(Debug)]
struct Attempt {
    number: u8,
    up: Leg,
    slot: Slot,
    is_trial: bool,
    sent_at: Duration,
    answer_time: AnswerTime,
    forwarded: u64,
    holding: Holding,
}

impl Hedging {
    /// Counts a call that begins; [`Worker::decide_hedges`] must follow, once.
    pub(super) fn begin(settings: &Arc<HedgeSettings>, gates: &Arc<RetryGates>, now: Duration) -> Self {
        gates.budget.call_started(now);
        let (settings, gates) = (Arc::clone(settings), Arc::clone(gates));
        Self { settings, gates, state: None, main: 0, others: Vec::new(), last: None }
    }

    /// When the next attempt is due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.state?.next_at()
    }
}

impl LastAnswer {
    /// The end of the last attempt, and its answer if there was one: the header list that was just read.
    fn keep(worker: &mut Worker, end: &AttemptEnd) -> Self {
        let answer = matches!(end, AttemptEnd::Status { .. }).then(|| worker.keep_last());
        Self { code: end.code(), answer }
    }
}

impl Call {
    fn hedging(&mut self) -> Option<&mut Hedging> {
        self.extras.as_deref_mut()?.hedging.as_deref_mut()
    }

    /// What `grpc-previous-rpc-attempts` says with the newest attempt, of a hedged call with its main one.
    #[inline]
    pub(super) fn previous_attempts(&self) -> u8 {
        let hedging = self.extras.as_deref().and_then(|extras| extras.hedging.as_deref());
        hedging.map_or_else(|| self.retry.previous_attempts(), |hedging| hedging.main)
    }

    /// Whether it is hedged, and the answer of its last attempt is kept.
    pub(super) fn has_last_answer(&self) -> bool {
        let hedging = self.extras.as_deref().and_then(|extras| extras.hedging.as_deref());
        hedging.and_then(|hedging| hedging.last.as_ref()).is_some_and(|last| last.answer.is_some())
    }

    fn attempts_beside(&self) -> &[Attempt] {
        let hedging = self.extras.as_deref().and_then(|extras| extras.hedging.as_deref());
        hedging.map_or(&[], |hedging| &hedging.others)
    }

    /// Its attempts under way that no answer has come to, but for its first one.
    pub(super) fn further_attempts(&self) -> usize {
        let is_further = self.phase == CallPhase::Sent && self.up.is_some() && self.previous_attempts() > 0;
        let others = self.attempts_beside().iter().filter(|attempt| attempt.number > 0);
        usize::from(is_further) + others.count()
    }

    /// The endpoints where its attempts run, and since when.
    pub(super) fn runs_at(&self) -> impl Iterator<Item = (Slot, Duration)> + '_ {
        let main = self.slot.filter(|_| self.up.is_some()).map(|slot| (slot, self.attempt_at));
        main.into_iter().chain(self.attempts_beside().iter().map(|attempt| (attempt.slot, attempt.sent_at)))
    }

    /// Takes the answer that the call would end with, if no further attempt can follow.
    pub(super) fn take_last_answer(&mut self) -> Option<FieldBlock> {
        self.hedging()?.last.take()?.answer?.into_block()
    }

    /// Makes another attempt the main one, and the main one, if it runs, another.
    fn exchange(&mut self, at: usize) {
        let (up, slot, is_trial) = (self.up.take(), self.slot, self.is_trial);
        let (sent_at, answer_time, forwarded) = (self.attempt_at, self.answer_time, self.forwarded);
        let holding = self.take_holding();
        let Some(hedging) = self.hedging() else { return };
        let other = hedging.others.swap_remove(at);
        let number = core::mem::replace(&mut hedging.main, other.number);
        if let (Some(up), Some(slot)) = (up, slot) {
            let main = Attempt { number, up, slot, is_trial, sent_at, answer_time, forwarded, holding };
            hedging.others.push(main);
        }
        (self.up, self.slot, self.is_trial) = (Some(other.up), Some(other.slot), other.is_trial);
        (self.attempt_at, self.answer_time, self.forwarded) =
            (other.sent_at, other.answer_time, other.forwarded);
        self.hold(other.holding);
    }

    fn moment(&self, now: Duration) -> Moment {
        Moment { now, deadline: self.deadline, replay: self.replay, is_idempotent: true }
    }
}

impl Worker {
    /// An attempt of a hedged call was sent: with the first one the wait for the next begins.
    #[inline]
    pub(super) fn note_hedged(&mut self, now: Duration, id: u32) {
        let Some(hedging) = self.calls[id as usize].hedging() else { return };
        let last = hedging.last.take();
        if hedging.state.is_none() {
            hedging.state = Some(HedgeState::new(&hedging.settings.policy, true, now));
        }
        self.give_last(last);
        self.arm_call(id);
    }

    /// Makes the attempt whose stream this is the main one of its call. Whether there is such an attempt.
    #[cold]
    pub(super) fn make_main(&mut self, now: Duration, id: u32, is_it: impl Fn(Leg) -> bool) -> bool {
        let Some(call) = self.calls.get_mut(id as usize) else { return false };
        let Some(hedging) = call.hedging() else { return false };
        let Some(at) = hedging.others.iter().position(|attempt| is_it(attempt.up)) else { return false };
        self.exchange(now, id, at);
        true
    }

    /// Makes another attempt the main one; the client's credit follows what that one has sent.
    fn exchange(&mut self, now: Duration, id: u32, at: usize) {
        let call = &mut self.calls[id as usize];
        call.exchange(at);
        let (down, credit) = (call.down, call.credit_for(0));
        self.touch(down.conn);
        self.consume(down.conn, down.stream, credit);
        self.note_progress(now, id, Staller::Backend);
    }

    /// Notes that queued bytes of an attempt beside the main one have left.
    #[cold]
    pub(super) fn note_hedge_progress(&mut self, id: u32, leg: Leg, bytes: u32) {
        let Some(hedging) = self.calls.get_mut(id as usize).and_then(Call::hedging) else { return };
        if let Some(attempt) = hedging.others.iter_mut().find(|attempt| attempt.up == leg) {
            attempt.forwarded += u64::from(bytes);
        }
    }

    /// The main attempt of a hedged call ended in this way. Whether the call goes on.
    pub(super) fn follow_up_hedged(&mut self, now: Duration, id: u32, end: AttemptEnd) -> bool {
        let call = &mut self.calls[id as usize];
        let moment = call.moment(now);
        let slot = call.slot;
        let Some(hedging) = call.hedging() else { return false };
        let Some(state) = &mut hedging.state else { return false };
        let (gates, policy) = (hedging.gates.gates(), &hedging.settings.policy);
        let (ended, is_alone) = (hedging.main, hedging.others.is_empty());
        let decision = state.attempt_ended(policy, gates, ended, &end, &moment);
        if let HedgeDecision::Finish(reason) = decision {
            self.count_denied(id, reason);
            if ended > 0 && matches!(reason, StopReason::Succeeded | StopReason::NotRetryable) {
                self.count_of_call(id, ClusterEvent::Hedged(Hedged::Won));
            }
            self.log_endpoint(id);
            // One that fails at once has not overtaken those that work on it.
            let losers = match outcome_of(&end) {
                Outcome::Success => Losers::Slower,
                _ => Losers::All(AttemptEnd::Overtaken { by_later: false }),
            };
            self.decide_hedges(now, id, losers);
            return false;
        }
        let next = match decision {
            HedgeDecision::Send { attempt } => Some(attempt),
            _ => None,
        };
        if let Some(number) = next.filter(|_| is_alone) {
            if !self.may_follow(id, number) {
                self.decide_hedges(now, id, Losers::Slower);
                return false;
            }
        } else {
            self.end_retry(id);
        }
        // An answer is kept even if another attempt follows at once: a limit may have no place for that.
        if is_alone && (next.is_none() || matches!(end, AttemptEnd::Status { .. })) {
            let last = LastAnswer::keep(self, &end);
            if let Some(hedging) = self.calls[id as usize].hedging() {
                hedging.last = Some(last);
            }
        }
        self.calls[id as usize].phase = CallPhase::Waiting;
        if next == Some(ended) && end == AttemptEnd::NoPlace {
            self.extras(id).limits.comes_back();
        } else {
            self.remember_tried(id, slot);
        }
        self.release_upstream(now, id, Some(end));
        // Others run: one of them is the main one from here on, and what is sent is one more beside it.
        let call = &mut self.calls[id as usize];
        if let Some(newest) = call.hedging().and_then(|hedging| hedging.others.len().checked_sub(1)) {
            call.phase = CallPhase::Sent;
            self.exchange(now, id, newest);
            self.log_endpoint(id);
        }
        if let Some(number) = next {
            let counted = match (number == ended, is_alone) {
                (true, _) => event(&end, true),
                (false, true) => ClusterEvent::Hedged(Hedged::AfterFailure),
                (false, false) => ClusterEvent::Hedged(Hedged::Sent),
            };
            self.send_numbered(now, id, number, counted);
        }
        if self.calls.contains(id as usize) {
            self.arm_call(id);
        }
        true
    }

    /// The next attempt of a hedged call is due.
    pub(super) fn on_hedge_due(&mut self, now: Duration, id: u32) {
        // Ends: each round sends an attempt, of which a call has a few, or waits.
        loop {
            let Some(call) = self.calls.get_mut(id as usize) else { return };
            let (moment, is_whole) = (call.moment(now), call.request_ended);
            let waits = call.phase == CallPhase::Waiting;
            let Some(hedging) = call.hedging() else { return };
            let Some(state) = &mut hedging.state else { return };
            let policy = &hedging.settings.policy;
            // An attempt that waits for a connection is not overtaken by one that would wait as well.
            if !is_whole || (waits && state.is_running()) {
                state.postpone(policy, now);
                return;
            }
            match state.handle_timeout(policy, hedging.gates.gates(), &moment) {
                HedgeDecision::Send { attempt } if !waits => {
                    self.send_numbered(now, id, attempt, ClusterEvent::Hedged(Hedged::Sent));
                }
                HedgeDecision::Send { attempt } if self.may_follow(id, attempt) => {
                    self.send_numbered(now, id, attempt, ClusterEvent::Hedged(Hedged::AfterFailure));
                }
                HedgeDecision::Send { .. } => return self.end_with_last(now, id),
                HedgeDecision::Wait => return,
                HedgeDecision::Finish(reason) => {
                    self.count_denied(id, reason);
                    return self.end_with_last(now, id);
                }
            }
        }
    }

    /// Whether the cluster's circuit breaker has a place for the attempt with this number while no other runs. The call keeps the
    /// place; if there is none it ends as its last attempt did, like one that is retried.
    fn may_follow(&mut self, id: u32, number: u8) -> bool {
        let may_follow = number == 0 || self.take_retry(id);
        if !may_follow {
            self.count_of_call(id, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
        }
        may_follow
    }

    /// Ends a call as its last attempt ended, which the next one should have followed.
    pub(super) fn end_with_last(&mut self, now: Duration, id: u32) {
        let last = self.calls[id as usize].hedging().and_then(|hedging| hedging.last.take());
        self.decide_hedges(now, id, Losers::Slower);
        let code = last.as_ref().map_or(Code::Unavailable, |last| last.code);
        let block = match last.and_then(|last| last.answer) {
            Some(Last::List(block)) => block,
            Some(Last::Text(text)) => {
                let flag = ResponseFlag::UpstreamProtocolError;
                return self.end_call(now, id, &Ending::local(code, flag, &text));
            }
            None => {
                let text =
                    format!("no attempt succeeded, and none may follow; the last one ended with {code}");
                return self.end_call(now, id, &Ending::local(code, ResponseFlag::RetryLimit, &text));
            }
        };
        // It is where an answer that was read just now would be.
        let read = core::mem::replace(&mut self.fields.block, block);
        self.calls[id as usize].code = Some(code);
        self.forward_headers(now, id, true);
        let block = core::mem::replace(&mut self.fields.block, read);
        self.give_block(block);
    }

    fn give_last(&mut self, last: Option<LastAnswer>) {
        if let Some(block) = last.and_then(|last| last.answer?.into_block()) {
            self.give_block(block);
        }
    }

    /// Sends the attempt with this number: as the main one if none runs, else beside it. `counted` is what it counts as.
    fn send_numbered(&mut self, now: Duration, id: u32, number: u8, counted: ClusterEvent) {
        let call = &mut self.calls[id as usize];
        let is_alone = call.up.is_none();
        let Some(hedging) = call.hedging() else { return };
        if is_alone {
            hedging.main = number;
            self.count_of_call(id, counted);
            self.drop_clients_count(id);
            self.attempt(now, id);
        } else if self.send_beside(now, id, number) {
            self.count_of_call(id, counted);
        } else {
            self.count_of_call(id, ClusterEvent::Hedged(Hedged::NoEndpoint));
            let Some(hedging) = self.calls[id as usize].hedging() else { return };
            if let Some(state) = &mut hedging.state {
                state.not_sent(number, &hedging.settings.policy, &hedging.gates.budget, now);
            }
        }
    }

    /// Sends an attempt beside the main one. Whether an endpoint had room.
    fn send_beside(&mut self, now: Duration, id: u32, number: u8) -> bool {
        let Some((slot, conn)) = self.pick_beside(now, id) else { return false };
        let Some(holding) = self.take_beside(id, slot, number > 0) else { return false };
        self.drop_clients_count(id);
        self.touch(conn);
        let http2 = &mut self.conns[conn.index()].http2;
        let Ok(stream) = http2.open(now, id) else {
            self.drop_holding(now, id, slot, holding);
            return false;
        };
        let call = &mut self.calls[id as usize];
        call.attempts = call.attempts.saturating_add(1);
        let own = OwnFields::new(number, call.deadline.map(|deadline| deadline.saturating_sub(now)));
        let (mut extra, store) = (Default::default(), &mut self.fields.store);
        let is_empty = call.kept.is_empty();
        let opened = http2.send_headers(store, stream, &call.request, own.list(&mut extra), is_empty);
        debug_assert!(opened.is_ok(), "a stream that was opened just now takes headers");
        let mut forwarded = 0;
        if !is_empty {
            forwarded = http2.send_data(now, stream, &call.kept, true).unwrap_or(call.kept.len()) as u64;
        }
        let attempt = Attempt {
            number,
            up: Leg { conn, stream },
            slot,
            is_trial: false,
            sent_at: now,
            answer_time: AnswerTime::default(),
            forwarded,
            holding,
        };
        let cluster = call.cluster;
        if let Some(hedging) = call.hedging() {
            hedging.others.push(attempt);
        }
        let balancer = &mut self.clusters[cluster as usize].balancer;
        balancer.call_started(slot, now);
        let probes = balancer.answer_probes(now);
        self.count_probes(cluster, probes);
        if let Some(stats) = self.endpoint_stats(cluster, slot) {
            stats.call_started();
        }
        true
    }

    /// An endpoint that has none of the call's attempts yet, and a connection with room.
    fn pick_beside(&mut self, now: Duration, id: u32) -> Option<(Slot, ConnId)> {
        let call = &mut self.calls[id as usize];
        let (cluster, hash, main) = (call.cluster, call.hash, call.slot);
        let mut unwanted = Unwanted::default();
        for slot in call.tried().chain(main) {
            unwanted.add(slot);
        }
        for attempt in &call.hedging()?.others {
            unwanted.add(attempt.slot);
        }
        loop {
            let balancer = &mut self.clusters[cluster as usize].balancer;
            let slot = match unwanted.pick(balancer, &Ask { now, hash }) {
                Pick::Endpoint(slot) => slot,
                // Whether an ejected endpoint is back is for a call's first attempt to find out.
                Pick::Trial(slot) => {
                    balancer.drop_trial(slot);
                    return None;
                }
                _ => return None,
            };
            if let Some(conn) = self.conn_with_room(now, cluster, slot) {
                return Some((slot, conn));
            }
            if !unwanted.add(slot) {
                return None;
            }
        }
    }

    /// A hedged call is decided by its main attempt, which has answered.
    #[inline]
    pub(super) fn win_hedges(&mut self, now: Duration, id: u32) {
        let Some(hedging) = self.calls[id as usize].hedging() else { return };
        let is_further = hedging.main > 0;
        let answer = hedging.gates.throttle.is_some().then(|| HedgedAnswer {
            settings: Arc::clone(&hedging.settings),
            gates: Arc::clone(&hedging.gates),
        });
        if answer.is_some() {
            self.extras(id).hedged = answer;
        }
        if is_further {
            self.count_of_call(id, ClusterEvent::Hedged(Hedged::Won));
        }
        self.log_endpoint(id);
        self.decide_hedges(now, id, Losers::Slower);
    }

    /// A hedged call is over. If its deadline ends it, that is every attempt's end.
    #[inline]
    pub(super) fn end_hedges(&mut self, now: Duration, id: u32) {
        let is_too_late = self.calls[id as usize].code == Some(Code::DeadlineExceeded);
        let end = if is_too_late { AttemptEnd::DeadlineExceeded } else { AttemptEnd::Cancelled };
        self.decide_hedges(now, id, Losers::All(end));
    }

    /// A hedged call is decided, or ends. The attempts beside the main one are cancelled.
    #[inline]
    pub(super) fn decide_hedges(&mut self, now: Duration, id: u32, losers: Losers) {
        if let Some(hedging) = self.calls[id as usize].take_extra(|extras| &mut extras.hedging) {
            self.end_hedging(now, id, *hedging, losers);
        }
    }

    fn end_hedging(&mut self, now: Duration, id: u32, hedging: Hedging, losers: Losers) {
        let call = &mut self.calls[id as usize];
        let Hedging { gates, state, others, last, .. } = hedging;
        if let Some(mut state) = state {
            state.abandon(&gates.budget);
        }
        gates.budget.call_finished();
        let load = call.take_extra(|extras| &mut extras.load);
        let main = (call.up.take(), call.slot, call.is_trial, call.attempt_at, call.answer_time);
        let holding = call.take_holding();
        for attempt in others {
            let call = &mut self.calls[id as usize];
            (call.up, call.slot, call.is_trial) = (Some(attempt.up), Some(attempt.slot), attempt.is_trial);
            (call.attempt_at, call.answer_time) = (attempt.sent_at, attempt.answer_time);
            call.hold(attempt.holding);
            let end = losers.end(attempt.sent_at, main.3);
            self.release_upstream(now, id, Some(end));
            self.end_retry(id);
        }
        self.give_last(last);
        let call = &mut self.calls[id as usize];
        (call.up, call.slot, call.is_trial, call.attempt_at, call.answer_time) = main;
        call.hold(holding);
        self.note_progress(now, id, Staller::Backend);
        if load.is_some() {
            self.extras(id).load = load;
        }
    }

    fn count_denied(&self, id: u32, reason: StopReason) {
        if let Some(denied) = denied(reason) {
            self.count_of_call(id, ClusterEvent::RetryDenied(denied));
        }
    }
}
