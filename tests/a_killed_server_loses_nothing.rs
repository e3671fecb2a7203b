//! `kill -9` at random moments of a call: what a client was told is committed is in the journal afterwards, the
//! database opens cleanly, and the recording, WAV in one round and Opus in the next, plays to within 100 ms of the end.

mod live;

use live::{Folder, More, Server};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sotto::cli::demo::party::{Party, PartyOptions};
use sotto::io::clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_at_random_moments() {
    let folder = Folder::new("killed");
    let mut dice = rand::rngs::SmallRng::seed_from_u64(20_261_120);
    let mut table = Vec::new();
    for round in 0..ROUNDS {
        let moment = Duration::from_millis(dice.random_range(300..6_000));
        table.push(one_round(&folder, round, moment).await);
    }
    println!("round  as    killed after  events seen  watermark  in the journal  recording ends before the kill by");
    for row in &table {
        println!("{row}");
    }
}

async fn one_round(folder: &Folder, round: usize, moment: Duration) -> String {
    let mut agent = Party::bind(PartyOptions::new("agent", 2 * round as u64)).await.unwrap();
    let mut customer = Party::bind(PartyOptions::new("customer", 2 * round as u64 + 1)).await.unwrap();
    let routes =
        format!("[[route]]\ncalled = 'agent'\nsteps = [ {{connect = {{to = \"sip:agent@{}\"}}}} ]\n", agent.sip_addr());
    let format = if round.is_multiple_of(2) { "wav" } else { "opus" };
    let recording = format!("format = \"{format}\"");
    let server = Server::start_with(
        &folder.0,
        live::model().to_str().unwrap(),
        &routes,
        More { recording: &recording, ..More::default() },
    );
    let mut follower = server.follow().await;
    let uri = format!("sip:agent@{}", server.sip);
    let began = clock::now();
    let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(Duration::from_secs(5)));
    called.unwrap();
    answered.unwrap();
    let speech: Arc<[i16]> = speech("call1_cold_competitor_agent.wav");
    tokio::spawn(async move {
        let _ = customer.say(speech).await;
        // Kept until the end of the round: dropping a party ends its call.
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop((customer, agent));
    });
    follower.until("call.connected", Duration::from_secs(5)).await;
    follower.read_for(moment).await;
    let killed = began.elapsed();
    server.kill();
    follower.read_for(Duration::from_secs(2)).await;

    let call = follower.seen[0]["callid"].as_str().unwrap().to_owned();
    let watermark = follower
        .seen
        .iter()
        .filter(|e| e["type"] == "sotto.journal.committed")
        .filter_map(|e| e["data"]["seq"].as_u64())
        .max()
        .expect("a watermark was seen");
    let server = Server::start(&folder.0, "", "");
    let journal: Value = server.get(&format!("/v1/calls/{call}/events")).await.json().await.unwrap();
    let kept: BTreeMap<&str, &Value> =
        journal.as_array().unwrap().iter().map(|e| (e["id"].as_str().unwrap(), e)).collect();
    let mut checked = 0;
    for event in follower.seen.iter().filter(|e| e["type"] != "sotto.journal.committed") {
        let seq: u64 = event["id"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        if seq <= watermark {
            assert_eq!(kept.get(event["id"].as_str().unwrap()), Some(&event), "an acknowledged event changed or went");
            checked += 1;
        }
    }
    assert!(checked as u64 >= watermark, "{checked} events were seen up to the watermark {watermark}");
    let [.., recording, last] = &journal.as_array().unwrap()[..] else { panic!("{journal}") };
    assert_eq!(last["type"], "sotto.call.ended", "a recovered call is closed");
    assert_eq!(recording["type"], "sotto.recording.ended", "and its recording before it");

    let wav = server.get(&format!("/v1/calls/{call}/recording.wav")).await.bytes().await.unwrap();
    let reader = hound::WavReader::new(std::io::Cursor::new(wav)).unwrap();
    let length = Duration::from_secs_f64(f64::from(reader.duration()) / f64::from(reader.spec().sample_rate));
    let told = Duration::from_secs_f64(recording["mediatime"].as_i64().unwrap() as f64 / 48_000.0);
    assert_eq!(told.as_millis(), length.as_millis(), "where it ends was told");
    // The call's clock starts when the INVITE is taken, a little after `began`; the capture ends with the kill.
    let short = killed.saturating_sub(length);
    assert!(short <= Duration::from_millis(100) + SETUP, "the recording is {length:?} long, killed at {killed:?}");
    let check = integrity(&folder.0.join("data/sotto.db")).await;
    assert_eq!(check, "ok");
    format!(
        "{round:>5} {format:>4}  {:>9} ms  {:>11}  {watermark:>9}  {:>14}  {:>8} ms",
        killed.as_millis(),
        follower.seen.len(),
        kept.len(),
        short.as_millis()
    )
}

/// From the customer's INVITE leaving to the call's clock starting.
const SETUP: Duration = Duration::from_millis(20);

fn speech(name: &str) -> Arc<[i16]> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/samples").join(name);
    hound::WavReader::open(path).unwrap().into_samples::<i16>().map(|s| s.unwrap()).collect()
}

async fn integrity(database: &std::path::Path) -> String {
    let url = format!("sqlite://{}", database.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&pool).await.unwrap()
}
