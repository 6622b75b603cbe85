//! Answers as plain text: the bytes of keys and values as they are, each with a newline after it.

use etcd_client::{EventType, GetResponse, KeyValue, WatchResponse};

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

/// `OK`, and what was there before.
pub fn put(answer: &Written) -> Vec<u8> {
    let mut text = b"OK\n".to_vec();
    if let Some(kv) = &answer.prev_kv {
        push(&mut text, kv);
    }
    text
}

/// The count, and what was there before.
pub fn delete(answer: &Deleted) -> Vec<u8> {
    let mut text = format!("{}\n", answer.count).into_bytes();
    for kv in &answer.prev_kvs {
        push(&mut text, kv);
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

fn push(text: &mut Vec<u8>, kv: &KeyValue) {
    line(text, kv.key());
    line(text, kv.value());
}

fn line(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(bytes);
    text.push(b'\n');
}
