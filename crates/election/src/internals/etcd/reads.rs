//! What a transaction has read.

use etcd_client::{GetResponse, KeyValue, TxnOpResponse, TxnResponse};

/// The answers to the reads of a transaction, in their order.
pub(crate) fn gets(answer: &TxnResponse) -> impl Iterator<Item = GetResponse> + use<> {
    let responses = answer.op_responses().into_iter();
    responses.filter_map(|response| match response {
        TxnOpResponse::Get(get) => Some(get),
        _ => None,
    })
}

/// The first key that each read has found, if it found one.
pub(crate) fn firsts(answer: &TxnResponse) -> impl Iterator<Item = Option<KeyValue>> + use<> {
    gets(answer).map(|mut get| get.take_kvs().into_iter().next())
}
