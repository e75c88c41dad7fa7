//! gRPC's status codes: their numbers, their names, and the value of the `grpc-status` header.
//!
//! Rule: the wire form is the decimal number without leading zeros; whatever else stands there counts as
//! [`Code::Unknown`], never as success. A proxy forwards the bytes it received and uses [`Code`] only to
//! judge the call (retries, outlier detection, metrics).
//!
//! Source: [status codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md), and the Status
//! production of [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).

use core::fmt;

/// The outcome of a call, as carried by `grpc-status`.
///
/// One line each; `statuscodes.md` has the full meanings and says which party may generate which code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    /// 0: success.
    Ok = 0,
    /// 1: the call was cancelled, typically by the caller.
    Cancelled = 1,
    /// 2: no better code is known; also the reading of a missing or malformed `grpc-status`.
    Unknown = 2,
    /// 3: the request is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// 4: the deadline passed before the call completed.
    DeadlineExceeded = 4,
    /// 5: the requested entity does not exist.
    NotFound = 5,
    /// 6: the entity to create exists.
    AlreadyExists = 6,
    /// 7: the caller is known but not allowed to do this.
    PermissionDenied = 7,
    /// 8: a quota, a rate limit or a size limit is exhausted.
    ResourceExhausted = 8,
    /// 9: the system is not in the state the call needs.
    FailedPrecondition = 9,
    /// 10: aborted, mostly by a conflict between concurrent calls.
    Aborted = 10,
    /// 11: past the valid range, for example beyond the end of a file.
    OutOfRange = 11,
    /// 12: no such service or method here.
    Unimplemented = 12,
    /// 13: an invariant of the system or of the protocol is broken.
    Internal = 13,
    /// 14: not reachable at the moment; a retry with backoff may help.
    Unavailable = 14,
    /// 15: unrecoverable loss or corruption.
    DataLoss = 15,
    /// 16: the call carries no valid credentials.
    Unauthenticated = 16,
}

/// The three spellings of a code.
struct Spelling {
    code: Code,
    wire: &'static [u8],
    name: &'static str,
    metric_name: &'static str,
}

const fn row(code: Code, wire: &'static [u8], name: &'static str, metric_name: &'static str) -> Spelling {
    Spelling { code, wire, name, metric_name }
}

/// Indexed by the code's number.
static SPELLINGS: [Spelling; 17] = [
    row(Code::Ok, b"0", "OK", "OK"),
    row(Code::Cancelled, b"1", "CANCELLED", "Canceled"),
    row(Code::Unknown, b"2", "UNKNOWN", "Unknown"),
    row(Code::InvalidArgument, b"3", "INVALID_ARGUMENT", "InvalidArgument"),
    row(Code::DeadlineExceeded, b"4", "DEADLINE_EXCEEDED", "DeadlineExceeded"),
    row(Code::NotFound, b"5", "NOT_FOUND", "NotFound"),
    row(Code::AlreadyExists, b"6", "ALREADY_EXISTS", "AlreadyExists"),
    row(Code::PermissionDenied, b"7", "PERMISSION_DENIED", "PermissionDenied"),
    row(Code::ResourceExhausted, b"8", "RESOURCE_EXHAUSTED", "ResourceExhausted"),
    row(Code::FailedPrecondition, b"9", "FAILED_PRECONDITION", "FailedPrecondition"),
    row(Code::Aborted, b"10", "ABORTED", "Aborted"),
    row(Code::OutOfRange, b"11", "OUT_OF_RANGE", "OutOfRange"),
    row(Code::Unimplemented, b"12", "UNIMPLEMENTED", "Unimplemented"),
    row(Code::Internal, b"13", "INTERNAL", "Internal"),
    row(Code::Unavailable, b"14", "UNAVAILABLE", "Unavailable"),
    row(Code::DataLoss, b"15", "DATA_LOSS", "DataLoss"),
    row(Code::Unauthenticated, b"16", "UNAUTHENTICATED", "Unauthenticated"),
];

impl Code {
    /// Every code, at the index of its number: for label sets that are complete from the start.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number; `None` above 16.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }

    /// Reads the value of `grpc-status`.
    ///
    /// A number above 16, a leading zero, a sign, a space or anything but digits reads as [`Code::Unknown`],
    /// as `statuscodes.md` and PROTOCOL-HTTP2 ("without any leading zeros") ask.
    #[must_use]
    pub const fn from_wire(value: &[u8]) -> Self {
        let number = match *value {
            [digit @ b'0'..=b'9'] => digit - b'0',
            [b'1', digit @ b'0'..=b'6'] => 10 + (digit - b'0'),
            _ => return Self::Unknown,
        };
        Self::ALL[number as usize]
    }

    /// The value of `grpc-status`: the decimal number.
    #[must_use]
    pub fn wire(self) -> &'static [u8] {
        self.spelling().wire
    }

    /// The name of the specification and of service configs: `DEADLINE_EXCEEDED`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spelling().name
    }

    /// The name in the `grpc_code` label of the Prometheus metrics, which is grpc-go's: `DeadlineExceeded`.
    ///
    /// Source: `codes.Code.String` of grpc-go, used as the label by go-grpc-prometheus, whose dashboards are
    /// common.
    #[must_use]
    pub fn metric_name(self) -> &'static str {
        self.spelling().metric_name
    }

    fn spelling(self) -> &'static Spelling {
        let spelling = &SPELLINGS[self as usize];
        debug_assert!(spelling.code == self);
        spelling
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_tables_agree() {
        for (number, code) in (0_u8..).zip(Code::ALL) {
            assert_eq!(u8::from(code), number);
            assert_eq!(Code::from_u8(number), Some(code));
            assert_eq!(SPELLINGS[usize::from(number)].code, code);
            assert_eq!(code.wire(), number.to_string().as_bytes());
            assert_eq!(Code::from_wire(code.wire()), code);
        }
    }

    #[test]
    fn numbers_above_sixteen_are_no_code() {
        for number in 17..=u8::MAX {
            assert_eq!(Code::from_u8(number), None);
            assert_eq!(Code::from_wire(number.to_string().as_bytes()), Code::Unknown);
        }
    }

    #[test]
    fn malformed_wire_values_read_as_unknown() {
        for value in
            ["", " ", "00", "01", "010", "-0", "-1", "+1", "1 ", " 1", "1.0", "OK", "1x", "x1", "4294967296"]
        {
            assert_eq!(Code::from_wire(value.as_bytes()), Code::Unknown, "{value:?}");
        }
        assert_eq!(Code::from_wire(b"\xff"), Code::Unknown);
        assert_eq!(Code::from_wire(b"1/"), Code::Unknown, "one below '0'");
        assert_eq!(Code::from_wire(b":"), Code::Unknown, "one above '9'");
    }

    #[test]
    fn the_two_names_are_the_same_words() {
        for code in Code::ALL {
            let words = code.name().replace('_', "");
            // "Canceled" is grpc-go's spelling of CANCELLED.
            let expected = if code == Code::Cancelled { "CANCELED" } else { &words };
            assert_eq!(code.metric_name().to_ascii_uppercase(), expected);
        }
        assert_eq!(Code::DeadlineExceeded.metric_name(), "DeadlineExceeded");
        assert_eq!(Code::DeadlineExceeded.to_string(), "DEADLINE_EXCEEDED");
    }
}
