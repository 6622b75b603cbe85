//! Answers as plain text: the bytes of keys and values as they are, each with a newline after it.

use etcd_client::{EventType, GetResponse, KeyValue, TxnOpResponse, WatchResponse};

use super::txn::Committed;
use super::{Deleted, Written};

/// Keys and values, line by line; a value that was left out is an empty line.
pub fn get(answer: &GetResponse) -> Vec<u8> {
    let mut text = Vec::new();
    for kv in answer.kvs() {
        push(&mut text, kv);
    }
    text
}

/// The values alone.
pub fn values(answer: &GetResponse) -> Vec<u8> {
    let mut text = Vec::new();
    for kv in answer.kvs() {
        line(&mut text, kv.value());
    }
    text
}

/// How many there are.
pub fn count(answer: &GetResponse) -> Vec<u8> {
    format!("{}\n", answer.count()).into_bytes()
}

/// `OK`, and what was there before.
pub fn put(answer: &Written) -> Vec<u8> {
    let mut text = Vec::new();
    push_put(&mut text, answer.prev_kv.as_ref());
    text
}

/// The count, and what was there before.
pub fn delete(answer: &Deleted) -> Vec<u8> {
    let mut text = Vec::new();
    push_deleted(&mut text, answer.count, &answer.prev_kvs);
    text
}

/// Whether the conditions held, and what came of each thing that was done, with an empty line before it.
pub fn txn(answer: &Committed) -> Vec<u8> {
    let word: &[u8] = if answer.succeeded {
        b"SUCCESS"
    } else {
        b"FAILURE"
    };
    let mut text = Vec::new();
    line(&mut text, word);
    for response in &answer.responses {
        text.push(b'\n');
        match response {
            TxnOpResponse::Get(got) => text.extend(get(got)),
            TxnOpResponse::Put(put) => push_put(&mut text, put.prev_key()),
            TxnOpResponse::Delete(it) => push_deleted(&mut text, it.deleted(), it.prev_kvs()),
            // None is asked for.
            TxnOpResponse::Txn(_) => {}
        }
    }
    text
}

/// For each event its kind, what was there before, and what is there now.
pub fn watch(message: &WatchResponse) -> Vec<u8> {
    let mut text = Vec::new();
    for event in message.events() {
        let kind: &[u8] = match event.event_type() {
            EventType::Put => b"PUT",
            EventType::Delete => b"DELETE",
        };
        line(&mut text, kind);
        for kv in event.prev_kv().into_iter().chain(event.kv()) {
            push(&mut text, kv);
        }
    }
    text
}

fn push_put(text: &mut Vec<u8>, prev_kv: Option<&KeyValue>) {
    line(text, b"OK");
    if let Some(kv) = prev_kv {
        push(text, kv);
    }
}

fn push_deleted(text: &mut Vec<u8>, count: i64, prev_kvs: &[KeyValue]) {
    line(text, count.to_string().as_bytes());
    for kv in prev_kvs {
        push(text, kv);
    }
}

fn push(text: &mut Vec<u8>, kv: &KeyValue) {
    line(text, kv.key());
    line(text, kv.value());
}

fn line(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(bytes);
    text.push(b'\n');
}
