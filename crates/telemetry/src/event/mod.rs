//! The tables of events: what a worker counts besides calls.
//!
//! One definition makes the enum, the counter's slot, the metric's name, its help text and its label. A variant's
//! payload is its label: the payload's name is the label's name, its type the label's values, so that no label can grow.
//! Adding a metric is adding a line.
//!
//! There is a table for each thing that events are told apart by, and each is its own type, so that none can be counted
//! without saying where it happened: [`Event`] for the process, [`ClusterEvent`] for a cluster, [`RouteEvent`] for a route. A
//! family may be in the first two: what belongs to no cluster then has no label `cluster`.

/// A metric made of events.
pub(crate) struct Family {
    /// Without the suffix `_total`, which the exposition adds.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The label's name and values; `None` for a metric of one series.
    pub(crate) label: Option<(&'static str, &'static [&'static str])>,
    /// Its first slot; the others follow in the order of the label's values.
    pub(crate) slot: usize,
}

/// The number of slots before the family at `index`.
const fn slots_before(labels: &[Option<(&str, &[&str])>], index: usize) -> usize {
    let (mut sum, mut family) = (0, 0);
    while family < index {
        sum += match labels[family] {
            Some((_, values)) => values.len(),
            None => 1,
        };
        family += 1;
    }
    sum
}

/// `Some((name, values))` for a payload, `None` without one.
macro_rules! label_of {
    () => {
        None
    };
    ($label:ident : $values:ty) => {
        Some((stringify!($label), <$values as Label>::VALUES))
    };
}

/// Defines the type of a table's events, and the table as `FAMILIES` of `SLOTS` counters: variant, payload, name, help.
macro_rules! events {
    (
        $(#[$type_doc:meta])*
        pub enum $type:ident;
        $( $(#[$doc:meta])* $variant:ident $( ($label:ident : $values:ty) )? = $name:literal, $help:literal; )*
    ) => {
        $(#[$type_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $( $(#[$doc])* $variant $( ($values) )?, )* }

        /// The variants without their payloads: the index of each family.
        #[derive(Clone, Copy)]
        enum Index { $( $variant, )* }

        const LABELS: &[Option<(&str, &[&str])>] = &[$( label_of!($( $label : $values )?), )*];

        /// All families, in the order of the variants.
        pub(crate) const FAMILIES: &[Family] = &[$( Family {
            name: $name,
            help: $help,
            label: LABELS[Index::$variant as usize],
            slot: slots_before(LABELS, Index::$variant as usize),
        }, )*];

        /// Counters of one writer.
        pub(crate) const SLOTS: usize = slots_before(LABELS, LABELS.len());

        impl $type {
            /// The counter of this event and label.
            #[inline]
            pub(crate) fn slot(self) -> usize {
                match self { $(
                    Self::$variant $( ($label) )? =>
                        (const { slots_before(LABELS, Index::$variant as usize) }) $( + $label.index() )?,
                )* }
            }
        }
    };
}

// Behind the macros that they use.
pub(crate) mod cluster;
mod label;
pub(crate) mod process;
pub(crate) mod route;

pub use cluster::ClusterEvent;
pub(crate) use label::Label;
pub use label::{
    Ejected, HealthCheckResult, Hedged, Injected, KeyMet, Limited, LoadReported, LoadStreamEnded, Mirrored,
    Probed, PushedBack, RateLimited, Refused, Reload, ReplayDropped, ResponseFlag, ResponseFlags,
    RetryDenied, RetryReason, Shed, Side, TransparentRetry,
};
pub use process::Event;
pub use route::RouteEvent;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TABLES: [(&[Family], usize); 3] = [
        (process::FAMILIES, process::SLOTS),
        (cluster::FAMILIES, cluster::SLOTS),
        (route::FAMILIES, route::SLOTS),
    ];

    #[test]
    fn slots_follow_each_other_without_gap_or_overlap() {
        for (families, slots) in TABLES {
            let mut next = 0;
            for family in families {
                assert_eq!(family.slot, next, "{}", family.name);
                next += family.label.map_or(1, |(_, values)| values.len());
            }
            assert_eq!(next, slots);
        }
    }

    #[test]
    fn the_slot_of_a_labelled_event_is_that_of_its_value() {
        for flag in ResponseFlag::ALL {
            let (own, in_cluster) = (Event::LocalReply(*flag), ClusterEvent::LocalReply(*flag));
            for (families, slot) in [(process::FAMILIES, own.slot()), (cluster::FAMILIES, in_cluster.slot())]
            {
                let family = families.iter().find(|family| family.name == "evenkeel_local_replies").unwrap();
                let (label, values) = family.label.unwrap();
                assert_eq!((label, values[slot - family.slot]), ("response_flag", flag.as_str()));
            }
        }
        assert_eq!(Event::Wakeup.slot(), process::SLOTS - 1);
        assert_eq!(ClusterEvent::Probe(Probed::Unanswered).slot(), cluster::SLOTS - 1);
    }

    #[test]
    fn names_are_prefixed_once_each_and_helps_are_sentences() {
        for (families, _) in TABLES {
            let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
            assert_eq!(names.len(), families.len());
            for family in families {
                let name = family.name;
                assert!(name.starts_with("evenkeel_") && !name.ends_with("_total"), "{name}");
                assert!(family.help.ends_with('.'), "{}", family.help);
            }
        }
    }

    #[test]
    fn a_family_of_two_tables_says_the_same_in_both() {
        let same = |family: &&Family| process::FAMILIES.iter().find(|other| other.name == family.name);
        let shared = cluster::FAMILIES.iter().filter_map(|family| Some((family, same(&family)?)));
        let shared: Vec<_> = shared
            .map(|(one, other)| {
                assert!(one.label.is_some(), "its series must be told apart: {}", one.name);
                assert_eq!((one.help, one.label), (other.help, other.label), "{}", one.name);
                one.name
            })
            .collect();
        assert_eq!(shared, ["evenkeel_local_replies"]);
    }
}
