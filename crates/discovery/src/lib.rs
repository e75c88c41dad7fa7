//! Resolvers that turn a target into endpoints: static, DNS and file.
