//! What the server and a recogniser process say to each other over the process's standard input and output: frames of
//! a length (u32, little endian) and a body, both bounded. Audio goes in, words come out, one job at a time.

use std::io::{self, Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Seconds of audio a job may have: whisper's own window.
pub const MAX_SECONDS: usize = 30;

/// Samples of a job at most (16 kHz).
pub const MAX_SAMPLES: usize = MAX_SECONDS * 16_000;

/// Bytes of a request's body at most: its number and the samples.
pub const REQUEST_LIMIT: usize = 4 + MAX_SAMPLES * 4;

/// Bytes of a reply's body at most. Thirty seconds of speech are about 500 characters; this is generous.
pub const REPLY_LIMIT: usize = 16 * 1024;

/// A body nobody of ours wrote.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadFrame(&'static str);

impl From<BadFrame> for io::Error {
    fn from(bad: BadFrame) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, bad)
    }
}

/// Audio to be recognised.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// Comes back in the reply.
    pub number: u32,
    /// Mono, 16 kHz.
    pub pcm: Vec<f32>,
}

/// What a recogniser process says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The model is loaded.
    Ready,
    /// The model cannot be used; the process ends.
    Unusable(String),
    /// What a job's audio says.
    Words { number: u32, confidence: f32, text: String },
    /// A job failed, the process goes on.
    Failed { number: u32, reason: String },
}

/// A whole request frame, ready to be written. Audio beyond [`MAX_SAMPLES`] is left out.
pub fn request(number: u32, pcm: &[f32]) -> Vec<u8> {
    let pcm = &pcm[..pcm.len().min(MAX_SAMPLES)];
    let mut frame = Vec::with_capacity(8 + pcm.len() * 4);
    frame.extend_from_slice(&((4 + pcm.len() * 4) as u32).to_le_bytes());
    frame.extend_from_slice(&number.to_le_bytes());
    for sample in pcm {
        frame.extend_from_slice(&sample.to_le_bytes());
    }
    frame
}

impl Request {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Request, BadFrame> {
        let (number, samples) = body.split_first_chunk::<4>().ok_or(BadFrame("a request without a number"))?;
        let (samples, rest) = samples.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(BadFrame("a request with part of a sample"));
        }
        let pcm: Vec<f32> = samples.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if pcm.iter().any(|s| !s.is_finite()) {
            return Err(BadFrame("a request with a sample that is no number"));
        }
        Ok(Request { number: u32::from_le_bytes(*number), pcm })
    }
}

impl Reply {
    /// A whole reply frame, ready to be written. Text that does not fit is cut.
    pub fn frame(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let text = match self {
            Reply::Ready => {
                body.push(0);
                ""
            }
            Reply::Unusable(reason) => {
                body.push(1);
                reason
            }
            Reply::Words { number, confidence, text } => {
                body.push(2);
                body.extend_from_slice(&number.to_le_bytes());
                body.extend_from_slice(&confidence.to_le_bytes());
                text
            }
            Reply::Failed { number, reason } => {
                body.push(3);
                body.extend_from_slice(&number.to_le_bytes());
                reason
            }
        };
        let room = text.floor_char_boundary(REPLY_LIMIT - body.len());
        body.extend_from_slice(&text.as_bytes()[..room]);
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.append(&mut body);
        frame
    }

    /// Reads a reply's body.
    pub fn parse(body: &[u8]) -> Result<Reply, BadFrame> {
        let (kind, rest) = body.split_first().ok_or(BadFrame("an empty reply"))?;
        match kind {
            0 if rest.is_empty() => Ok(Reply::Ready),
            1 => Ok(Reply::Unusable(text(rest)?)),
            2 => {
                let (number, rest) = number(rest)?;
                let (confidence, rest) = rest.split_first_chunk().ok_or(BadFrame("words without a confidence"))?;
                let confidence = f32::from_le_bytes(*confidence);
                if !(0.0..=1.0).contains(&confidence) {
                    return Err(BadFrame("a confidence that is no probability"));
                }
                Ok(Reply::Words { number, confidence, text: text(rest)? })
            }
            3 => {
                let (number, rest) = number(rest)?;
                Ok(Reply::Failed { number, reason: text(rest)? })
            }
            _ => Err(BadFrame("a reply of no known kind")),
        }
    }
}

/// Writes a whole frame and sends it off.
pub fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)?;
    to.flush()
}

/// The next frame's body; none at the end of the input.
pub fn read(from: &mut impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut body = vec![0; bounded(length, limit)?];
    from.read_exact(&mut body)?;
    Ok(Some(body))
}

/// The next frame's body, without blocking. The end of the input is an error: the other side owes an answer.
pub async fn read_async(from: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut body = vec![0; bounded(length, limit)?];
    from.read_exact(&mut body).await?;
    Ok(body)
}

fn bounded(length: [u8; 4], limit: usize) -> Result<usize, BadFrame> {
    let length = u32::from_le_bytes(length) as usize;
    if length > limit { Err(BadFrame("a frame longer than allowed")) } else { Ok(length) }
}

fn number(body: &[u8]) -> Result<(u32, &[u8]), BadFrame> {
    let (number, rest) = body.split_first_chunk().ok_or(BadFrame("a reply without a number"))?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn text(body: &[u8]) -> Result<String, BadFrame> {
    String::from_utf8(body.to_vec()).map_err(|_| BadFrame("a text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_out_as_they_went_in() {
        let frame = request(7, &[0.0, -1.0, 0.25]);
        let body = read(&mut frame.as_slice(), REQUEST_LIMIT).unwrap().unwrap();
        assert_eq!(Request::parse(&body).unwrap(), Request { number: 7, pcm: vec![0.0, -1.0, 0.25] });
    }

    #[test]
    fn replies_come_out_as_they_went_in() {
        let replies = [
            Reply::Ready,
            Reply::Unusable("no".into()),
            Reply::Words { number: 3, confidence: 0.5, text: "Déjà vu".into() },
            Reply::Failed { number: u32::MAX, reason: String::new() },
        ];
        for reply in replies {
            let body = read(&mut reply.frame().as_slice(), REPLY_LIMIT).unwrap().unwrap();
            assert_eq!(Reply::parse(&body).unwrap(), reply);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_between_characters() {
        let frame = Reply::Unusable("é".repeat(REPLY_LIMIT)).frame();
        let body = read(&mut frame.as_slice(), REPLY_LIMIT).unwrap().unwrap();
        assert!(matches!(Reply::parse(&body), Ok(Reply::Unusable(text)) if text.chars().all(|c| c == 'é')));
        assert_eq!(request(0, &vec![0.0; MAX_SAMPLES + 1]).len(), 4 + REQUEST_LIMIT);
    }

    #[test]
    fn hostile_frames_are_refused() {
        assert!(read(&mut [255, 255, 255, 255, 0].as_slice(), REPLY_LIMIT).is_err());
        assert!(read(&mut [9, 0, 0, 0, 1].as_slice(), REPLY_LIMIT).is_err());
        assert!(read(&mut [].as_slice(), REPLY_LIMIT).unwrap().is_none());
        let bodies: [&[u8]; 8] = [
            &[],
            &[9],
            &[0, 1],
            &[2, 1, 2],
            &[2, 0, 0, 0, 0, 0, 0],
            &[3, 0],
            &[1, 0xFF],
            &[2, 0, 0, 0, 0, 0, 0, 0xC0, 0x7F],
        ];
        for body in bodies {
            assert!(Reply::parse(body).is_err(), "{body:?}");
        }
        for body in [&[1u8, 2] as &[u8], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 0, 0x80, 0x7F]] {
            assert!(Request::parse(body).is_err(), "{body:?}");
        }
    }
}
