//! `incumbent kv txn`: the input and the answers of etcdctl, within the term.

use crate::common::*;

/// Transactions whose answer is the same for both tools, on the same keys.
const SCRIPTS: [&str; 8] = [
    "mod(\"a\") > \"0\"\nvalue(\"b\") = \"\"\n\nput c \"hello world\"\nget a bb\ndel nobody\n\nget b\n\n",
    "create(\"nobody\") != \"0\"\nver(\"a\") = \"2\"\n\nput c 1\n\nget a --keys-only\nget \"\" --prefix --order DESCEND --limit 2\n\n",
    "c(\"a\") < \"1\"\n\nput c 1\n\n\n",
    "val(\"a\") = \"first\"\n\n\nget nobody\n\n",
    "\nput a third --prev-kv\ndel b --prefix --prev-kv\nget leased\n\n\n",
    "\nget a --sort-by VERSION --order ascend\nget b --from-key --limit 1\nget a --rev 2 --print-value-only\n\n\n",
    "m(\"a\") = \"3\"\n\nput \"a \\\"key\\\" \\x41\\u00e9\" -- -5\nget a\n\n\n",
    "\n\n\n",
];

/// Writes the keys anew, so that both tools see the same revisions.
fn filled() -> Cluster {
    let cluster = Cluster::start(1);
    cluster.put("a", "first");
    cluster.put("a", "second\nline");
    cluster.put("b", "");
    cluster.put("bb", "3");
    cluster.put("leased", "v");
    cluster
}

/// An answer in JSON with the names that etcdctl has since 3.5, and without what tells one store from
/// another.
fn leveled(json: &str) -> String {
    let json = json.replace("ResponseRange", "response_range");
    let json = json.replace("ResponsePut", "response_put");
    let json = json.replace("ResponseDeleteRange", "response_delete_range");
    let ids = ["\"cluster_id\":", "\"member_id\":", "\"raft_term\":"];
    ids.iter().fold(json, |json, id| {
        let mut parts = json.split(id);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| {
            all + id + part.trim_start_matches(|c: char| c.is_ascii_digit())
        })
    })
}

#[test]
fn a_transaction_answers_as_etcdctl_byte_for_byte() {
    let (for_us, for_them) = (filled(), filled());
    for script in SCRIPTS {
        let ours = for_us.incumbent(&["kv", "txn"]).input(script.as_bytes());
        let theirs = for_them.etcdctl(&["txn"]).input(script.as_bytes());
        assert_eq!(ours.text(), theirs.text(), "{script}");
        assert_eq!(for_us.revision(), for_them.revision(), "{script}");
        let ours = for_us.incumbent(&["kv", "txn", "-o", "json"]);
        let theirs = for_them.etcdctl(&["txn", "-w", "json"]);
        let ours = ours.input(script.as_bytes()).text();
        let theirs = theirs.input(script.as_bytes()).text();
        assert_eq!(leveled(&ours), leveled(&theirs), "{script}");
    }
    // One that writes nothing has the same answer twice, whoever asks.
    let read = "mod(\"a\") > \"0\"\n\nget \"\" --prefix\nget nobody\n\n\n";
    let ours = for_us.incumbent(&["kv", "txn", "-o", "json"]);
    let theirs = for_us
        .etcdctl(&["txn", "-w", "json"])
        .input(read.as_bytes());
    let theirs = theirs.text().replace("ResponseRange", "response_range");
    assert_eq!(ours.input(read.as_bytes()).text(), theirs);
}

#[test]
fn a_transaction_of_a_term_that_is_over_writes_nothing() {
    let cluster = Cluster::start(1);
    cluster.put("leader", "a");
    let token = cluster.revision().to_string();
    let in_job = |more: &[&str], script: &str| {
        let typed = [&["kv", "txn"], more].concat();
        let typed = cluster
            .incumbent(&typed)
            .env("INCUMBENT_TOKEN", &token)
            .env("INCUMBENT_LEADER_KEY", "leader");
        typed.input(script.as_bytes())
    };
    let write = "create(\"x\") = \"0\"\n\nput x 1\n\nput y 2\nget x\n\n";
    assert_eq!(in_job(&[], write).text(), "SUCCESS\n\nOK\n");
    assert_eq!(in_job(&[], write).text(), "FAILURE\n\nOK\n\nx\n1\n");
    let json = in_job(&["-o", "json"], write).text();
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(answer["header"]["member_id"].is_u64(), "{json}");
    assert_eq!(
        answer["responses"][1]["Response"]["response_range"]["count"],
        1
    );

    cluster.delete("leader");
    cluster.put("leader", "a");
    let before = cluster.revision();
    for script in [
        write,
        "\n\ndel x\n\n",
        "mod(\"x\") = \"0\"\n\n\nput z 1\n\n",
    ] {
        let answer = in_job(&[], script).run();
        assert_eq!(answer.code, Some(3), "{}", answer.errors);
        let said = format!("the term with token {token} is over; nothing was written");
        assert!(answer.errors.contains(&said), "{}", answer.errors);
        assert_eq!(answer.output, b"");
    }
    assert_eq!(cluster.revision(), before);
    // What only reads needs no term.
    assert_eq!(in_job(&[], "\nget x\n\n\n").text(), "SUCCESS\n\nx\n1\n");
    assert_eq!(
        in_job(&["--unguarded"], write).text(),
        "FAILURE\n\nOK\n\nx\n1\n"
    );
}

#[test]
fn a_transaction_that_could_block_an_election_is_refused() {
    let cluster = Cluster::start(1);
    let before = cluster.revision();
    let own = format!("{PREFIX}/x");
    for script in [
        format!("\nput {own} v\n\n\n"),
        format!("\nget a\n\nput {own} v\n\n"),
    ] {
        let answer = cluster
            .incumbent(&["kv", "txn"])
            .input(script.as_bytes())
            .run();
        assert_eq!(answer.code, Some(3), "{}", answer.errors);
        assert!(answer.errors.contains("would block"), "{}", answer.errors);
    }
    assert_eq!(cluster.revision(), before);
}

#[test]
fn a_script_that_makes_no_sense_is_wrong_usage() {
    let cluster = Cluster::prepare(1);
    for (script, said) in [
        (
            "mod(\"a\") = \"0\"\n\nput a\n\n\n",
            "incumbent: line 3: the following required arguments were not provided: <VALUE>\n",
        ),
        (
            "mod(\"a\") = \"0\"\n",
            "incumbent: line 2: expected an empty line after the conditions, found the end\n",
        ),
    ] {
        let answer = cluster
            .incumbent(&["kv", "txn"])
            .input(script.as_bytes())
            .run();
        assert_eq!((answer.code, answer.errors.as_str()), (Some(2), said));
    }
}

#[test]
fn a_read_of_history_that_is_gone_says_how_far_it_goes() {
    let cluster = Cluster::start(1);
    for value in ["1", "2", "3", "4"] {
        cluster.put("a", value);
    }
    let oldest = cluster.revision() - 1;
    cluster.compact(oldest);
    let script = b"\nget a --rev 2\nget a --rev 3\n\n\n";
    let answer = cluster.incumbent(&["kv", "txn"]).input(script).run();
    let said = format!("incumbent: revision 2 was compacted; oldest is {oldest}\n");
    assert_eq!((answer.code, answer.errors), (Some(1), said));
}
