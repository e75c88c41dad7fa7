//! Metadata that a route adds, sets and removes.
//!
//! Rule: what is removed goes, what is set takes the place of fields of its name, what is added comes behind; other fields
//! keep their order. Requests are changed once, after the route was chosen, the rate limits asked and the keys read by what the client sent,
//! and each attempt sends the result. A trailers-only answer is both the beginning and the end of an answer (gRPC's PROTOCOL-HTTP2), so both
//! changes apply. Answers of our own are changed like a backend's; calls that no route takes have none to say so.
//!
//! Cost: nothing for routes without changes. A worker interns what it may add when it takes a snapshot, so that a call costs
//! a look-up for each field and no allocation, and the peer's table holds the field.

use evenkeel_http2::field::{Field, FieldBlock, FieldStore};

use super::Worker;

/// What is changed in a header list. Its owner answers for the names: none is a pseudo field, HTTP/2's or gRPC's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetadataChange {
    /// Names of fields that go, in lower case.
    removed: Vec<Box<[u8]>>,
    /// Fields that are added.
    added: Vec<NameAndValue>,
}

type NameAndValue = (Box<[u8]>, Box<[u8]>);

impl MetadataChange {
    /// Leaves fields of this name out.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        self.removed.push(name.as_bytes().into());
        self
    }

    /// Puts a field in the place of those of its name.
    #[must_use]
    pub fn set(self, name: &str, value: &str) -> Self {
        self.remove(name).add(name, value)
    }

    /// Adds a field.
    #[must_use]
    pub fn add(mut self, name: &str, value: &str) -> Self {
        self.added.push((name.as_bytes().into(), value.as_bytes().into()));
        self
    }

    fn removes(&self, field: &Field<'_>) -> bool {
        self.removed.iter().any(|name| **name == *field.name)
    }

    /// Changes a header list.
    pub(super) fn apply(&self, block: &mut FieldBlock, store: &mut FieldStore) {
        if !self.removed.is_empty() {
            block.retain_fields(store, |field| !self.removes(field));
        }
        for (name, value) in &self.added {
            match store.find(name, value) {
                Some(id) => block.push_id(store, id, true),
                // A reload has taken this change away while the call was under way.
                None => block.push_literal(name, value, false),
            }
        }
    }
}

/// What a route changes in metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// In requests on their way to the backend.
    pub request: MetadataChange,
    /// In what an answer begins with, on its way to the client.
    pub response: MetadataChange,
    /// In what an answer ends with, on its way to the client.
    pub trailers: MetadataChange,
}

/// Which part of an answer a header list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AnswerPart {
    /// Its beginning.
    Headers,
    /// Its end, behind messages.
    Trailers,
    /// All of it.
    TrailersOnly,
}

impl Worker {
    /// Interns what routes of the snapshot add, and forgets what those of the snapshot before did.
    pub(super) fn intern_added(&mut self) {
        let before = core::mem::take(&mut self.added);
        let routes = self.snapshot.listeners.iter().flat_map(|listener| listener.routes.iter());
        let rewrites = routes.filter_map(|route| route.actions.as_deref()).map(|actions| &actions.rewrite);
        for change in rewrites.flat_map(|rewrite| [&rewrite.request, &rewrite.response, &rewrite.trailers]) {
            self.added.extend(change.added.iter().map(|(name, value)| self.fields.store.intern(name, value)));
        }
        for id in before {
            self.fields.store.release(id);
        }
    }

    /// Changes a request as its route asks.
    #[inline]
    pub(super) fn rewrite_request(&mut self, id: u32) {
        let call = &mut self.calls[id as usize];
        if let Some(actions) = &call.actions {
            actions.rewrite.request.apply(&mut call.request, &mut self.fields.store);
        }
    }

    /// Changes a part of an answer as the call's route asks.
    pub(super) fn rewrite_answer(&mut self, id: u32, part: AnswerPart, block: &mut FieldBlock) {
        let Some(actions) = &self.calls[id as usize].actions else { return };
        let (rewrite, store) = (&actions.rewrite, &mut self.fields.store);
        if part != AnswerPart::Trailers {
            rewrite.response.apply(block, store);
        }
        if part != AnswerPart::Headers {
            rewrite.trailers.apply(block, store);
        }
    }

    /// The same for the header list that was read last, a backend's.
    #[inline]
    pub(super) fn rewrite_received(&mut self, id: u32, part: AnswerPart) {
        if self.calls[id as usize].actions.is_none() {
            return;
        }
        let mut block = core::mem::take(&mut self.fields.block);
        self.rewrite_answer(id, part, &mut block);
        self.fields.block = block;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: &MetadataChange, fields: &[(&str, &str)], interned: bool) -> Vec<(String, String)> {
        let mut store = FieldStore::new(1);
        let mut block = FieldBlock::new();
        for (name, value) in fields {
            block.push_literal(name.as_bytes(), value.as_bytes(), false);
        }
        let intern = |(name, value): &NameAndValue| store.intern(name, value);
        let ids: Vec<_> = change.added.iter().filter(|_| interned).map(intern).collect();
        change.apply(&mut block, &mut store);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = block.iter(&store).map(|field| (text(field.name), text(field.value))).collect();
        let by_reference = block.iter(&store).filter(|field| field.by_reference).count();
        assert_eq!(by_reference, ids.len(), "what is interned is sent by reference");
        block.clear(&mut store);
        ids.into_iter().for_each(|id| store.release(id));
        assert_eq!(store.references(), 0);
        all
    }

    #[test]
    fn removes_sets_and_adds_in_this_order_whether_interned_or_not() {
        let change = MetadataChange::default().add("x-a", "2").set("x-b", "3").remove("x-c").set("x-d", "4");
        let fields =
            [(":path", "/a/b"), ("x-c", "0"), ("x-b", "1"), ("x-a", "1"), ("x-b", "2"), ("x-cc", "5")];
        let expected =
            [(":path", "/a/b"), ("x-a", "1"), ("x-cc", "5"), ("x-a", "2"), ("x-b", "3"), ("x-d", "4")];
        for interned in [true, false] {
            let all = changed(&change, &fields, interned);
            let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_change_of_nothing_changes_nothing() {
        let fields = [("a", "1"), ("b", "2")];
        assert_eq!(changed(&MetadataChange::default(), &fields, true).len(), 2);
    }
}
