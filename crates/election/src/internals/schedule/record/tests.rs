//! The records, as they are stored and read.

use super::*;

fn full() -> State {
    let last = Slot::up_to(Time::from_secs(u64::MAX));
    let host = cut(&"\u{1}".repeat(300));
    State {
        spec: "0123456789abcdef".to_owned(),
        since: Time::from_millis(u64::MAX),
        paused_until: Some(Time::from_millis(u64::MAX)),
        slot: Some(last),
        seq: u64::MAX - 1,
        open: Some(Open {
            slot: Occasion::Slot(last),
            attempt: u32::MAX,
            token: Token::new(i64::MAX),
            nonce: "0123456789abcdef".to_owned(),
            host: host.clone(),
            at: Time::from_millis(u64::MAX),
            missed: u64::MAX,
        }),
        last: Some(Last {
            slot: Occasion::Slot(last),
            attempt: u32::MAX,
            result: Outcome::Success,
            began: Time::from_millis(u64::MAX),
            took_ms: u64::MAX,
            host,
            token: Token::new(i64::MAX),
            nonce: Some("0123456789abcdef".to_owned()),
            missed: u64::MAX,
        }),
        last_success: Some(last),
        failures: u64::MAX - 1,
        missed: u64::MAX,
    }
}

#[test]
fn the_largest_records_keep_within_their_size_and_are_read_as_written() {
    let state = full();
    let text = state.to_json();
    assert!(text.len() <= STATE_BYTES, "{}", text.len());
    assert_eq!(State::read(text.as_bytes()).unwrap(), state);
    let exit = Some(Exit::Code(i32::MIN));
    let (closed, record) = state.closed(Outcome::Failure, exit, Duration::MAX).unwrap();
    assert!(closed.open.is_none());
    let text = record.to_json();
    assert!(text.len() <= RUN_BYTES, "{}", text.len());
    assert_eq!(HistoryEntry::read(text.as_bytes()).unwrap(), record);
}

#[test]
fn the_state_has_the_names_of_the_contract() {
    let value = serde_json::to_value(full()).unwrap();
    let names = |value: &serde_json::Value| {
        let names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.join(" ")
    };
    assert_eq!(
        names(&value),
        "failures last last_success missed open paused_until seq since slot spec"
    );
    assert_eq!(
        names(&value["open"]),
        "at attempt host missed nonce slot token"
    );
    assert_eq!(
        names(&value["last"]),
        "attempt began host missed nonce result slot token took_ms"
    );
}

#[test]
fn what_an_older_or_newer_version_wrote_is_read() {
    let text = r#"{"spec":"x","since":"2027-01-01T00:00:00Z","slot":null,"seq":1,"open":
        {"slot":"manual","attempt":1,"token":7,"nonce":"n","host":"a","at":"2027-01-01T00:00:00Z"},
        "last":null,"last_success":null,"failures":0,"missed":0,"new":true}"#;
    let state = State::read(text.as_bytes()).unwrap();
    assert_eq!(state.open.unwrap().slot, Occasion::Manual);
    for token in ["0", "-7"] {
        let text = text.replace(":7,", &format!(":{token},"));
        let open = State::read(text.as_bytes()).unwrap().open.unwrap();
        assert_eq!(open.token, None, "{token}");
    }
    assert!(State::read(b"{}").is_err());
}

#[test]
fn only_the_last_run_is_settled_and_only_if_it_is_lost() {
    let mut state = full();
    let slot = state.slot.unwrap();
    assert!(matches!(
        state.resolved(slot, Outcome::Success),
        Err(NotSettled::Open(_))
    ));
    state.open = None;
    assert_eq!(
        state.resolved(slot, Outcome::Success),
        Err(NotSettled::NotLost(Outcome::Success))
    );
    state.last.as_mut().unwrap().result = Outcome::Lost;
    let other = Slot::up_to(Time::EPOCH);
    assert!(state.resolved(other, Outcome::Success).is_err());
    let settled = state.resolved(slot, Outcome::Success).unwrap();
    assert_eq!((settled.failures, settled.last_success), (0, Some(slot)));
    let again = state.resolved(slot, Outcome::Rerun).unwrap();
    assert_eq!(again.last.unwrap().result, Outcome::Rerun);
}

#[test]
fn a_rewind_lowers_the_mark_and_leaves_a_record() {
    let mut state = full();
    state.open = None;
    let to = Time::from_secs(1_800_000_000);
    let (rewound, record) = state.rewound(to, to, "a").unwrap();
    assert_eq!((rewound.mark().time(), rewound.latest()), (to, to));
    assert_eq!(record.slot, Occasion::Slot(state.mark()));
    assert_eq!(rewound.seq, state.seq + 1);
}

#[test]
fn two_runs_that_were_asked_for_in_one_term_are_two() {
    let run = |nonce: Option<&str>| RunId {
        slot: Occasion::Manual,
        attempt: 1,
        token: Token::new(7).unwrap(),
        nonce: nonce.map(str::to_owned),
    };
    let mut state = full();
    let open = state.open.as_mut().unwrap();
    (open.slot, open.attempt, open.token) = (Occasion::Manual, 1, Token::new(7));
    open.nonce = "a".to_owned();
    assert!(state.has_open(&run(Some("a"))) && !state.has_open(&run(Some("b"))));
    let (closed, _) = state
        .closed(Outcome::Success, None, Duration::ZERO)
        .unwrap();
    assert!(closed.has_closed(&run(Some("a"))) && !closed.has_closed(&run(Some("b"))));
    // Where it isn't known, the rest has to do.
    assert!(state.has_open(&run(None)) && closed.has_closed(&run(None)));
}
