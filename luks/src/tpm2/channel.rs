//! Bytes to a TPM and back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::device::{Device, FindError, only};
use zeroize::Zeroizing;

/// No TPM could be reached.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum ChannelError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("there is no TPM at {0}")]
    Absent(String),
    #[error("cannot open the TPM {0}")]
    Open(String, #[source] io::Error),
    #[error("cannot talk to the TPM {0}")]
    Talk(String, #[source] io::Error),
}

/// The largest answer that a TPM gives.
const MAX_ANSWER: usize = 4096;
const HEADER: usize = 10;

/// A way to a TPM.
pub(super) struct Channel {
    name: String,
    way: Way,
}

enum Way {
    Node(File),
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Channel {
    pub(super) fn open(device: &Device) -> Result<Self, ChannelError> {
        let way = match device {
            Device::Auto => Way::Node(node(&only(Path::new("/sys/class/tpmrm"))?)?),
            Device::Node(path) => Way::Node(node(path)?),
            Device::Tcp(host, port) => Way::Tcp(host.clone(), *port),
            Device::Unix(path) => Way::Unix(path.clone()),
        };
        Ok(Self {
            name: device.to_string(),
            way,
        })
    }

    /// Sends a command and waits for its answer.
    pub(super) fn exchange(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let answer = match &mut self.way {
            Way::Node(file) => talk(file, command),
            // As the TSS does it: others may use the same software TPM between two commands.
            Way::Tcp(host, port) => TcpStream::connect((host.as_str(), *port))
                .and_then(|mut stream| talk(&mut stream, command)),
            Way::Unix(path) => {
                UnixStream::connect(path).and_then(|mut stream| talk(&mut stream, command))
            }
        };
        answer.map_err(|error| ChannelError::Talk(self.name.clone(), error))
    }
}

fn node(path: &Path) -> Result<File, ChannelError> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ChannelError::Absent(path.display().to_string()),
        _ => ChannelError::Open(path.display().to_string(), error),
    })
}

fn talk(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    stream.write_all(command)?;
    let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
    let (mut have, mut want) = (0, HEADER);
    while have < want {
        let free = answer.get_mut(have..).unwrap_or_default();
        match stream.read(free)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => have += more,
        }
        want = size(&answer, have)?;
    }
    answer.truncate(want);
    Ok(answer)
}

/// How long the whole answer is, once its header is there.
fn size(answer: &[u8], have: usize) -> io::Result<usize> {
    let Some(size) = answer.get(2..6).filter(|_| have >= HEADER) else {
        return Ok(HEADER);
    };
    let size = size.try_into().map(u32::from_be_bytes).unwrap_or_default();
    match usize::try_from(size) {
        Ok(size) if (HEADER..=MAX_ANSWER).contains(&size) => Ok(size),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an answer of {size} bytes is not possible"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with chunks.
    struct Script(Vec<Vec<u8>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let chunk = self.0.remove(0);
            buffer[..chunk.len()].copy_from_slice(&chunk);
            Ok(chunk.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn answers_come_in_pieces() {
        let answer = [0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7, 8];
        let pieces = vec![
            answer[..3].to_vec(),
            answer[3..11].to_vec(),
            answer[11..].to_vec(),
        ];
        let got = talk(&mut Script(pieces), b"command").unwrap();
        assert_eq!(got[..], answer);
    }

    #[test]
    fn impossible_answers_are_refused() {
        for size in [0, 9, 4097, u32::MAX] {
            let mut answer = vec![0x80, 1];
            answer.extend(size.to_be_bytes());
            answer.extend([0; 4]);
            assert!(talk(&mut Script(vec![answer]), b"command").is_err());
        }
        assert!(talk(&mut Script(vec![vec![0x80, 1]]), b"command").is_err());
    }
}
