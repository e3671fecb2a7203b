//! A recogniser process: loads one model, then turns every request on its standard input into a reply on its standard
//! output, one at a time. It ends with its input, so that it never outlives the server, however that died. Native code
//! that crashes here takes this process with it and nothing else.

use super::engine::Engine;
use super::wire::{self, Reply, Request};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How much a recogniser steps back for media (`nice`): the words may come later, packets may not.
const NICENESS: i32 = 5;

/// Runs until the input ends.
pub fn run(model: &Path) -> ExitCode {
    step_back();
    let mut engine = match Engine::load(model) {
        Ok(engine) => engine,
        Err(reason) => {
            answer(&Reply::Unusable(reason));
            return ExitCode::FAILURE;
        }
    };
    // One request waits while one is in work; the server sends the next only after an answer.
    let (requests, incoming) = sync_channel(1);
    std::thread::spawn(move || listen(&requests));
    answer(&Reply::Ready);
    serve(&mut engine, &incoming);
    ExitCode::SUCCESS
}

fn serve(engine: &mut Engine, incoming: &Receiver<Request>) {
    while let Ok(Request { number, pcm }) = incoming.recv() {
        answer(&match engine.recognise(&pcm) {
            Ok(text) => Reply::Words { number, confidence: text.confidence, text: text.text },
            Err(reason) => Reply::Failed { number, reason },
        });
    }
}

/// Reads on a thread of its own, so that the process ends with its input even in the middle of a long decode.
fn listen(requests: &SyncSender<Request>) {
    let mut input = io::stdin().lock();
    loop {
        let body = match wire::read(&mut input, wire::REQUEST_LIMIT) {
            Ok(Some(body)) => body,
            Ok(None) => leave(0),
            Err(_) => leave(1),
        };
        let handed_on = Request::parse(&body).is_ok_and(|request| requests.send(request).is_ok());
        if !handed_on {
            leave(1);
        }
    }
}

/// A server that no longer reads is gone: so are we.
fn answer(reply: &Reply) {
    if wire::write(&mut io::stdout().lock(), &reply.frame()).is_err() {
        leave(1);
    }
}

/// Ends the process at once. An ordinary exit would run whisper.cpp's destructors under a decode that is still going
/// on, and crash.
#[allow(unsafe_code)]
fn leave(status: i32) -> ! {
    // SAFETY: _exit(2) takes a number and never returns; nothing of ours needs to be written or closed.
    unsafe { libc::_exit(status) }
}

#[allow(unsafe_code)]
fn step_back() {
    // SAFETY: nice(2) takes a number and touches no memory of ours. It fails only where a sandbox forbids it, and
    // then the process runs at the priority it has.
    unsafe { libc::nice(NICENESS) };
}
