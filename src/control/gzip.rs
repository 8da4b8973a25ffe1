//! Compression of a long response, a slice of a turn at a time.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::response::{HttpResponse, Note};
use crate::limits::HTTP_GZIP_BYTES_MIN;

/// A response that is being compressed.
#[derive(Debug)]
pub struct Compressing {
    response: HttpResponse,
    /// Bytes of the body that are compressed.
    done: usize,
    encoder: GzEncoder<Vec<u8>>,
}

impl Compressing {
    /// Begins to compress a response of at least `HTTP_GZIP_BYTES_MIN`.
    ///
    /// # Errors
    /// Returns any other response.
    pub fn begin(response: HttpResponse) -> Result<Self, HttpResponse> {
        if response.body.len() < HTTP_GZIP_BYTES_MIN || response.note != Note::None {
            return Err(response);
        }
        Ok(Self {
            response,
            done: 0,
            // The fastest level has four fifths of the effect of the best.
            encoder: GzEncoder::new(Vec::new(), Compression::fast()),
        })
    }

    /// Compresses at most `max` more bytes. Returns the response if these were the last.
    pub fn step(&mut self, max: usize) -> Option<HttpResponse> {
        let end = self.done.saturating_add(max).min(self.response.body.len());
        let slice = &self.response.body[self.done..end];
        // Writing into memory does not fail; if it did, the body would be sent as it is.
        let written = self.encoder.write_all(slice);
        self.done = end;
        if written.is_ok() && end < self.response.body.len() {
            return None;
        }
        let encoder = std::mem::replace(
            &mut self.encoder,
            GzEncoder::new(Vec::new(), Compression::fast()),
        );
        let mut response = std::mem::replace(&mut self.response, HttpResponse::bytes(Vec::new()));
        if let (Ok(()), Ok(body)) = (written, encoder.finish()) {
            response.body = body;
            response.note = Note::Gzip;
        }
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::control::response::Sending;

    fn long() -> HttpResponse {
        let body = (0..40_000).map(|n| format!("\"web-{n:06}\","));
        HttpResponse::text("application/json", body.collect())
    }

    #[test]
    fn a_long_body_is_compressed_in_slices() {
        let whole = long().body;
        let mut compressing = Compressing::begin(long()).unwrap();
        let mut slices = 1;
        let response = loop {
            match compressing.step(65_536) {
                Some(response) => break response,
                None => slices += 1,
            }
        };
        assert_eq!(slices, whole.len().div_ceil(65_536));
        assert!(response.body.len() < whole.len() / 3);
        let mut read = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&*response.body);
        decoder.read_to_end(&mut read).unwrap();
        assert!(read == whole);
        let mut sent = Vec::new();
        response.write(Sending::LAST, &mut sent);
        let length = format!("Content-Length: {}\r\n", response.body.len());
        let head = String::from_utf8_lossy(&sent[..400]).into_owned();
        assert!(head.contains("Content-Encoding: gzip\r\n"), "{head}");
        assert!(head.contains("Vary: Accept-Encoding\r\n"), "{head}");
        assert!(head.contains(&length), "{head}");
    }

    #[test]
    fn a_short_body_is_sent_as_it_is() {
        let short = HttpResponse::text("application/json", "{}".to_owned());
        assert!(Compressing::begin(short).is_err());
    }
}
