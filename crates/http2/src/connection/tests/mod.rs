//! Tests of a connection: against a raw peer ([`subject`], [`wire`]) and against its own kind ([`pair`]).

mod attacks;
mod floods;
mod flow_receive;
mod flow_send;
mod goaway;
mod headers;
mod honest_peers;
mod messages;
mod output;
mod pair;
mod ping;
mod preface;
mod regressions;
mod schedules;
mod settings;
mod states;
mod streams;
mod subject;
mod timers;
mod traffic;
mod wire;
