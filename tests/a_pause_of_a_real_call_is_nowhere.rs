//! A call over real SIP and RTP is paused and resumed through the API: the people talk on, and what they said meanwhile is
//! neither recorded nor written down, nor anywhere in the server's memory afterwards.

mod live;
#[path = "support/playing.rs"]
mod playing;
#[path = "support/samples.rs"]
mod samples;

use live::{Folder, More, Server};
use playing::Played;
use serde_json::{Value, json};
use sotto::cli::demo::party::{Capture, Party, PartyOptions};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
/// Samples in a row by which what was said is known again: 4 ms of speech are like nothing else.
const NEEDLE: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_it() {
    let folder = Folder::new("pause");
    let mut agent = Party::bind(PartyOptions::new("agent", 1)).await.unwrap();
    let mut customer = Party::bind(PartyOptions::new("customer", 2)).await.unwrap();
    let to = agent.sip_addr();
    let routes = format!("[[route]]\ncalled = 'agent'\nsteps = [ {{connect = {{to = \"sip:agent@{to}\"}}}} ]\n");
    let server = Server::start_with(
        &folder.0,
        live::model().to_str().unwrap(),
        &routes,
        More { recording: "legs = true", ..More::default() },
    );
    let mut follower = server.follow().await;
    let uri = format!("sip:agent@{}", server.sip);
    let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(PATIENCE));
    called.unwrap();
    answered.unwrap();
    let call = follower.until("call.connected", PATIENCE).await["callid"].as_str().unwrap().to_owned();
    let path = |rest: &str| format!("/v1/calls/{call}/{rest}");

    customer.say(samples::audio("utt15_buying.wav").into()).await.unwrap();
    follower.until("speech.final", PATIENCE).await;
    assert!(server.post(&path("pause"), json!({})).await.status().is_success());
    let paused = media_ms(&follower.until("recording.paused", PATIENCE).await);
    // A second of nothing, by which phrases are told apart below.
    customer.say(vec![0; 8_000].into()).await.unwrap();
    customer.say(samples::audio("utt08_next.wav").into()).await.unwrap();
    agent.say(samples::audio("utt02_cancel.wav").into()).await.unwrap();
    assert!(server.post(&path("resume"), json!({})).await.status().is_success());
    let resumed = media_ms(&follower.until("recording.resumed", PATIENCE).await);
    customer.say(samples::audio("utt03_competitor.wav").into()).await.unwrap();
    let third = follower.until("speech.final", PATIENCE).await;
    assert!(third["data"]["start"].as_i64().unwrap() / 48 >= resumed, "{third}");

    // While the call still runs: nothing of it has been freed.
    let memory = memory_of(server.pid());
    // Events are told at once and committed a moment later.
    let transcript = loop {
        let transcript: Value = server.get(&path("transcript")).await.json().await.unwrap();
        if transcript["utterances"].as_array().unwrap().iter().any(|u| u["utterance"] == third["data"]["utterance"]) {
            break transcript;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let said = customer.finish().await.unwrap();
    agent.hung_up().await;
    let heard = agent.finish().await.unwrap();
    follower.until("recording.ended", PATIENCE).await;

    assert_eq!(transcript["utterances"].as_array().unwrap().len(), 2, "{transcript}");
    for event in follower.seen.iter().filter(|e| e["type"].as_str().unwrap().starts_with("sotto.speech.")) {
        let at = media_ms(event);
        assert!(!(paused + 1..resumed).contains(&at), "in the pause: {event}");
    }
    for name in ["recording.wav", "recording?leg=leg-1", "recording?leg=leg-2"] {
        let played = playing::wav(&server.get(&path(name)).await.bytes().await.unwrap());
        for channel in 0..played.channels.len() {
            assert!(played.piece(channel, paused, resumed).iter().all(|s| *s == 0), "{name}: digital silence");
        }
        println!("{name}: silent from {paused} to {resumed} of {} ms", played.ms());
    }
    let whole = playing::wav(&server.get(&path("recording.wav")).await.bytes().await.unwrap());
    assert!(
        is_loud(&whole, paused - 2_000, paused) && is_loud(&whole, resumed, whole.ms()),
        "what is around it is there"
    );

    // Said in the pause, heard by the agent, and nowhere in the server.
    let (secret, open) = (spoken(&said, 1), spoken(&said, 2));
    assert!(agent_heard(&heard, &secret), "the people talk on");
    println!("looked for it in {} MB", memory.iter().map(Vec::len).sum::<usize>() >> 20);
    let (secret, open) = (needles(&secret), needles(&open));
    assert!(secret.len() > 20 && open.len() > 20, "{} and {} pieces to look for", secret.len(), open.len());
    assert_eq!(found(&memory, &secret), 0, "samples of the pause are in the server's memory");
    let open = found(&memory, &open);
    println!("{open} pieces of what was said last were found in the same way");
    assert!(open > 0, "the search can be believed");
}

fn media_ms(event: &Value) -> i64 {
    let time = &event["mediatime"];
    time.as_i64().unwrap_or_else(|| panic!("no time in {event}")) / 48
}

fn is_loud(played: &Played, from: i64, to: i64) -> bool {
    played.piece(0, from.max(0), to).iter().any(|s| s.unsigned_abs() > 1_000)
}

fn loudness(pcm: &[i16]) -> u16 {
    pcm.iter().map(|s| s.unsigned_abs()).max().unwrap_or_default()
}

/// The customer's `n`th phrase, as G.711 has made it.
fn spoken(said: &Capture, n: usize) -> Vec<i16> {
    let pcm = said.said();
    // Phrases are what is louder than the line's noise, with less than a second of it between their words.
    let mut phrases: Vec<(usize, usize)> = Vec::new();
    for (at, _) in pcm.iter().enumerate().filter(|(_, s)| s.unsigned_abs() > 300) {
        match phrases.last_mut() {
            Some((_, end)) if at - *end < 6_000 => *end = at,
            _ => phrases.push((at, at)),
        }
    }
    let (start, end) = phrases[n];
    pcm[start..end].to_vec()
}

fn agent_heard(heard: &Capture, said: &[i16]) -> bool {
    let needle = &said[said.len() / 2..][..NEEDLE];
    heard.heard().windows(NEEDLE).any(|window| window == needle)
}

/// Everything that a process can write to and has.
fn memory_of(pid: u32) -> Vec<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = BufReader::new(File::open(format!("/proc/{pid}/maps")).unwrap());
    let ranges = maps.lines().map(Result::unwrap).filter(|line| line.contains(" rw")).filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
    });
    ranges
        .filter_map(|(from, to)| {
            let mut bytes = vec![0; (to - from) as usize];
            memory.read_exact_at(&mut bytes, from).ok().map(|()| bytes)
        })
        .collect()
}

/// Pieces of loud speech as they lie in memory, by their first bytes.
fn needles(said: &[i16]) -> HashMap<[u8; 8], Vec<u8>> {
    let loud = said.chunks_exact(NEEDLE).filter(|piece| loudness(piece) > 2_000);
    let bytes = loud.map(|piece| piece.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>());
    bytes.map(|bytes| (*bytes.first_chunk().unwrap(), bytes)).collect()
}

/// How many of them are anywhere in there.
fn found(memory: &[Vec<u8>], needles: &HashMap<[u8; 8], Vec<u8>>) -> usize {
    let mut found = HashSet::new();
    for piece in memory {
        for at in (0..piece.len().saturating_sub(8)).step_by(2) {
            let first: [u8; 8] = *piece[at..].first_chunk().unwrap();
            if first != [0; 8] && needles.get(&first).is_some_and(|needle| piece[at..].starts_with(needle)) {
                found.insert(first);
            }
        }
    }
    found.len()
}
