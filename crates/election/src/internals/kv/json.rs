//! Answers as JSON, field for field as `etcdctl -w json` has them.
//!
//! Keys and values are base64, and fields that are zero or empty are left out: that is how Go
//! prints the messages of etcd's protocol. A watch's answer is no such message but a type of the
//! Go client, and so has capitals and no field left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcd_client::{EventType, GetResponse, ResponseHeader, TxnOpResponse, WatchResponse};
use serde::{Serialize, Serializer};

use super::txn::Committed;
use super::{Deleted, Written};

/// The answer to `get`.
pub fn get(answer: &GetResponse) -> serde_json::Result<String> {
    serde_json::to_string(&GetJson::from(answer))
}

/// The answer to `put`.
pub fn put(answer: &Written) -> serde_json::Result<String> {
    serde_json::to_string(&PutJson {
        header: answer.header.as_ref().map(Header::from),
        prev_kv: answer.prev_kv.as_ref().map(KeyValue::from),
    })
}

/// The answer to `del`.
pub fn delete(answer: &Deleted) -> serde_json::Result<String> {
    serde_json::to_string(&Delete {
        header: answer.header.as_ref().map(Header::from),
        deleted: answer.count,
        prev_kvs: answer.prev_kvs.iter().map(KeyValue::from).collect(),
    })
}

/// The answer to `txn`, with the names that etcdctl has since 3.5.
pub fn txn(answer: &Committed) -> serde_json::Result<String> {
    let response = |response: &TxnOpResponse| TxnOpJson {
        response: match response {
            TxnOpResponse::Get(get) => Some(ResponseJson::Range(get.into())),
            TxnOpResponse::Put(put) => Some(ResponseJson::Put(PutJson {
                header: put.header().map(Header::from),
                prev_kv: put.prev_key().map(KeyValue::from),
            })),
            TxnOpResponse::Delete(it) => Some(ResponseJson::DeleteRange(Delete {
                header: it.header().map(Header::from),
                deleted: it.deleted(),
                prev_kvs: it.prev_kvs().iter().map(KeyValue::from).collect(),
            })),
            // None is asked for.
            TxnOpResponse::Txn(_) => None,
        },
    };
    serde_json::to_string(&TxnJson {
        header: answer.header.as_ref().map(Header::from),
        succeeded: answer.succeeded,
        responses: answer.responses.iter().map(response).collect(),
    })
}

/// One message of a watch.
pub fn watch(message: &WatchResponse) -> serde_json::Result<String> {
    let event = |event: &etcd_client::Event| EventJson {
        kind: match event.event_type() {
            EventType::Put => 0,
            EventType::Delete => 1,
        },
        kv: event.kv().map(KeyValue::from),
        prev_kv: event.prev_kv().map(KeyValue::from),
    };
    serde_json::to_string(&WatchJson {
        header: message.header().map(Header::from).unwrap_or_default(),
        events: message.events().iter().map(event).collect(),
        compact_revision: message.compact_revision(),
        canceled: message.canceled(),
        created: message.created(),
    })
}

#[derive(Serialize)]
struct GetJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<KeyValue>,
    #[serde(skip_serializing_if = "is_default")]
    more: bool,
    #[serde(skip_serializing_if = "is_default")]
    count: i64,
}

impl From<&GetResponse> for GetJson {
    fn from(answer: &GetResponse) -> Self {
        Self {
            header: answer.header().map(Header::from),
            kvs: answer.kvs().iter().map(KeyValue::from).collect(),
            more: answer.more(),
            count: answer.count(),
        }
    }
}

#[derive(Serialize)]
struct TxnJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<TxnOpJson>,
}

#[derive(Serialize)]
struct TxnOpJson {
    #[serde(rename = "Response")]
    response: Option<ResponseJson>,
}

#[derive(Serialize)]
enum ResponseJson {
    #[serde(rename = "response_range")]
    Range(GetJson),
    #[serde(rename = "response_put")]
    Put(PutJson),
    #[serde(rename = "response_delete_range")]
    DeleteRange(Delete),
}

#[derive(Serialize)]
struct PutJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

#[derive(Serialize)]
struct Delete {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<KeyValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatchJson {
    header: Header,
    events: Vec<EventJson>,
    compact_revision: i64,
    canceled: bool,
    created: bool,
}

#[derive(Serialize)]
struct EventJson {
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    kind: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv: Option<KeyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

#[derive(Default, Serialize)]
struct Header {
    #[serde(skip_serializing_if = "is_default")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    raft_term: u64,
}

impl From<&ResponseHeader> for Header {
    fn from(header: &ResponseHeader) -> Self {
        Self {
            cluster_id: header.cluster_id(),
            member_id: header.member_id(),
            revision: header.revision(),
            raft_term: header.raft_term(),
        }
    }
}

#[derive(Serialize)]
struct KeyValue {
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64")]
    key: Vec<u8>,
    #[serde(skip_serializing_if = "is_default")]
    create_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    version: i64,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64")]
    value: Vec<u8>,
    #[serde(skip_serializing_if = "is_default")]
    lease: i64,
}

impl From<&etcd_client::KeyValue> for KeyValue {
    fn from(kv: &etcd_client::KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            version: kv.version(),
            value: kv.value().to_vec(),
            lease: kv.lease(),
        }
    }
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
