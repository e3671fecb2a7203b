//! One recogniser process as the server sees it: started, asked, waited for, killed.

use super::wire::{self, Reply};
use crate::speech::Text;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Why a process did not come up.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The program could not be run.
    #[error("the recogniser process could not be started: {0}")]
    Spawn(io::Error),
    /// It says what is wrong with the model.
    #[error("{0}")]
    Model(String),
    /// It ended, or said something else, before it was ready.
    #[error("the recogniser process failed while it loaded the model ({0})")]
    Died(Lost),
}

/// Why a process is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It ended.
    #[error("it ended with {0}")]
    Ended(ExitStatus),
    /// It did not answer in time.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Hung(Duration),
    /// It answered something that makes no sense, or closed its output.
    #[error("its answer could not be read: {0}")]
    Garbled(io::Error),
}

/// A running recogniser. Killed when dropped.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: u32,
}

impl Process {
    /// Starts `program speech-worker MODEL` and waits until it has loaded the model.
    pub async fn start(program: &Path, model: &Path, patience: Duration) -> Result<Process, NotStarted> {
        let mut child = Command::new(program)
            .arg("speech-worker")
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NotStarted::Spawn)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(NotStarted::Spawn(io::ErrorKind::BrokenPipe.into()));
        };
        let mut process = Process { child, input, output: BufReader::new(output), asked: 0 };
        match process.within(patience, |p| Box::pin(p.reply())).await {
            Ok(Reply::Ready) => Ok(process),
            Ok(Reply::Unusable(reason)) => Err(NotStarted::Model(reason)),
            Ok(Reply::Words { .. } | Reply::Failed { .. }) => Err(NotStarted::Died(out_of_turn())),
            Err(lost) => Err(NotStarted::Died(lost)),
        }
    }

    /// The words of some audio, or why this audio has none. `Err` means that the process must be replaced.
    pub async fn recognise(&mut self, pcm: &[f32], patience: Duration) -> Result<Result<Text, String>, Lost> {
        self.asked = self.asked.wrapping_add(1);
        let asked = self.asked;
        let request = wire::request(asked, pcm);
        let reply = self.within(patience, move |p| {
            Box::pin(async move {
                p.input.write_all(&request).await?;
                p.input.flush().await?;
                p.reply().await
            })
        });
        match reply.await? {
            Reply::Words { number, confidence, text } if number == asked => Ok(Ok(Text { text, confidence })),
            Reply::Failed { number, reason } if number == asked => Ok(Err(reason)),
            Reply::Words { .. } | Reply::Failed { .. } | Reply::Ready | Reply::Unusable(_) => Err(out_of_turn()),
        }
    }

    /// Waits until the process has ended of its own accord.
    pub async fn ended(&mut self) {
        // An error means that it cannot be waited for: it is no child of ours any more.
        let _ = self.child.wait().await;
    }

    /// Ends it at once and waits until it is gone.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// Its process id; none once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let body = wire::read_async(&mut self.output, wire::REPLY_LIMIT).await?;
        Ok(Reply::parse(&body)?)
    }

    /// Runs an exchange against the clock and tells what became of the process if it fails.
    async fn within<F>(&mut self, patience: Duration, exchange: F) -> Result<Reply, Lost>
    where
        F: FnOnce(&mut Process) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Reply>> + Send + '_>>,
    {
        match timeout(patience, exchange(self)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.post_mortem(error).await),
            Err(_) => Err(Lost::Hung(patience)),
        }
    }

    /// A closed pipe usually means that the process has ended: its status says more than the pipe does.
    async fn post_mortem(&mut self, error: io::Error) -> Lost {
        match timeout(Duration::from_secs(1), self.child.wait()).await {
            Ok(Ok(status)) => Lost::Ended(status),
            Ok(Err(_)) | Err(_) => Lost::Garbled(error),
        }
    }
}

fn out_of_turn() -> Lost {
    Lost::Garbled(io::Error::new(io::ErrorKind::InvalidData, "an answer to no question"))
}
