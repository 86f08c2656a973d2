//! A session's bytes between whoever asked and the machine.
//!
//! What the machine says counts to its last byte, whatever becomes of the other direction: a program that ends before it has read its
//! input leaves a broken pipe behind, and its exit code must still arrive. The other way round, a client that hangs up is told to the
//! machine, which ends the program.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// How long a client may take to hang up once it was told everything.
const LINGER: Duration = Duration::from_secs(5);

/// Carries bytes until the machine's end is at an end, or nobody takes what it says any more.
///
/// # Errors
/// If the client's end fails while the machine still has something to say.
pub async fn pump<C, M>(client: C, machine: M) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    M: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_machine, mut to_machine) = tokio::io::split(machine);
    let inward = async {
        // A machine that has ended takes no input; that is no failure of the session.
        let _ended_already = tokio::io::copy(&mut from_client, &mut to_machine).await;
        let _ended_already = to_machine.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outward = async {
        tokio::io::copy(&mut from_machine, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        ended = outward => ended?,
        () = inward => {}
    }
    // A client that was still writing must not meet a closed door before it has read the end.
    let mut nowhere = tokio::io::sink();
    let leaving = tokio::io::copy(&mut from_client, &mut nowhere);
    let _left_or_not = tokio::time::timeout(LINGER, leaving).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_a_program_said_arrives_though_it_never_read_its_input() {
        let (mut asker, client) = duplex(1 << 16);
        let (machine, mut program) = duplex(64);
        let pumping = tokio::spawn(pump(client, machine));
        // More input than the program's pipe takes, and a program that ends without reading it.
        asker.write_all(&[b'i'; 4096]).await.unwrap();
        program.write_all(b"exit").await.unwrap();
        drop(program);
        let mut said = Vec::new();
        asker.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"exit");
        asker.write_all(b"too late, but no failure").await.unwrap();
        drop(asker);
        pumping.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_told_to_the_machine() {
        let (asker, client) = duplex(64);
        let (machine, mut program) = duplex(64);
        let pumping = tokio::spawn(pump(client, machine));
        drop(asker);
        let mut heard = Vec::new();
        program.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty());
        drop(program);
        pumping.await.unwrap().unwrap();
    }
}
