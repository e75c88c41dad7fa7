//! Sans-IO HTTP/2 and HPACK: frames, streams, flow control and the abuse ledger, for both roles.
