//! `machine ls|show|start|stop|pause|resume|console|logs|exec`.

use std::io::{IsTerminal, Write};

use serde_json::json;
use tokio::task::JoinSet;

use super::output::{Output, table, write_out};
use super::session::{self, Ended, Input, Piece, RawTerminal};
use crate::config::args::{ExecArgs, LogsArgs, MachineCommand};
use crate::control::api::{ExecBody, Machine, MachineDetail, Slice, TerminalSize};
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};

pub(super) async fn run(client: &Client, command: &MachineCommand, output: Output) -> Result<Exit, Failure> {
    let later = |verb: &str| Err(Failure::not_yet_supported(&format!("`consort machine {verb}`")));
    match command {
        MachineCommand::Ls => list(client, output).await,
        MachineCommand::Show(args) => show(client, &args.name, output).await,
        MachineCommand::Start(args) => change(client, &args.name, "start", output).await,
        MachineCommand::Stop(args) => change(client, &args.name, "stop", output).await,
        MachineCommand::Pause(args) => change(client, &args.name, "pause", output).await,
        MachineCommand::Resume(args) => change(client, &args.name, "resume", output).await,
        MachineCommand::Console(args) => console(client, &args.name).await,
        MachineCommand::Logs(args) => logs(client, args, output).await,
        MachineCommand::Exec(args) => exec(client, args, output).await,
        MachineCommand::Checkpoint(_) => later("checkpoint"),
        MachineCommand::Restore(_) => later("restore"),
        MachineCommand::Clone(_) => later("clone"),
        MachineCommand::Migrate(_) => later("migrate"),
    }
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let machines: Vec<Machine> = client.get("/v1/machines").await?;
    output.document(&machines, |machines| {
        let rows: Vec<[String; 5]> = machines
            .iter()
            .map(|machine| {
                let host = if machine.here { "here" } else { &machine.host };
                [
                    format!("{}.{}", machine.name, machine.slice),
                    machine.state.clone(),
                    machine.category.clone(),
                    addresses(machine),
                    host.to_owned(),
                ]
            })
            .collect();
        table(["MACHINE", "STATE", "CATEGORY", "ADDRESSES", "HOST"], &rows)
    })?;
    Ok(Exit::Done)
}

fn addresses(machine: &Machine) -> String {
    let all: Vec<&str> = machine
        .interfaces
        .iter()
        .flat_map(|interface| [interface.ipv4.as_deref(), interface.ipv6.as_deref()])
        .flatten()
        .collect();
    all.join(" ")
}

async fn show(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let detail: MachineDetail = client.get(&path(name, "")).await?;
    show_detail(&detail, output)
}

async fn change(client: &Client, name: &str, verb: &str, output: Output) -> Result<Exit, Failure> {
    let detail: MachineDetail = client.post(&path(name, verb), &json!({})).await?;
    show_detail(&detail, output)
}

fn show_detail(detail: &MachineDetail, output: Output) -> Result<Exit, Failure> {
    output.document(detail, |detail| {
        let machine = &detail.machine;
        let reason = machine.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let mut text = format!(
            "{}.{}: {}{reason}\ncategory  {}\nhost      {}\n",
            machine.name, machine.slice, machine.state, machine.category, machine.host
        );
        for interface in &machine.interfaces {
            let addresses: Vec<&str> =
                [interface.ipv4.as_deref(), interface.ipv6.as_deref()].into_iter().flatten().collect();
            text.push_str(&format!("{:<9} {} {}\n", interface.network, interface.mac, addresses.join(" ")));
        }
        for (limit, how) in &detail.limits {
            text.push_str(&format!("{limit:<9} {how}\n"));
        }
        text
    })?;
    Ok(Exit::Done)
}

fn path(name: &str, verb: &str) -> String {
    let slash = if verb.is_empty() { "" } else { "/" };
    format!("/v1/machines/{}{slash}{verb}", segment(name))
}

async fn logs(client: &Client, args: &LogsArgs, output: Output) -> Result<Exit, Failure> {
    if args.follow {
        let stream = client.upgrade(&path(&args.name, "console"), &None::<TerminalSize>).await?;
        let (_no_input, input) = session::input_queue();
        session::carry(stream, input, |piece| log_piece(&piece, output)).await?;
        return Ok(Exit::Done);
    }
    client
        .follow(&path(&args.name, "logs"), |bytes| {
            log_piece(&Piece::Stdout(bytes.to_vec()), output).map_err(std::io::Error::other)
        })
        .await?;
    Ok(Exit::Done)
}

fn log_piece(piece: &Piece, output: Output) -> Result<(), Failure> {
    let (Piece::Stdout(bytes) | Piece::Stderr(bytes)) = piece;
    if output.json {
        return write_out(format!("{}\n", json!({ "log": String::from_utf8_lossy(bytes) })).as_bytes());
    }
    write_out(bytes)
}

async fn console(client: &Client, name: &str) -> Result<Exit, Failure> {
    let size = session::terminal_size().map(|size| TerminalSize { rows: size.rows, columns: size.columns });
    let stream = client.upgrade(&path(name, "console"), &size).await?;
    let raw = RawTerminal::enter();
    if raw.is_some() {
        eprint!("attached to {name}; leave with ctrl-]\r\n");
    }
    let (sender, input) = session::input_queue();
    let (leave, mut left) = tokio::sync::mpsc::channel(1);
    tokio::spawn(session::pass_sizes(sender.clone()));
    tokio::spawn(session::pass_stdin(vec![sender], Some(leave)));
    let carried = session::carry(stream, input, |piece| {
        let (Piece::Stdout(bytes) | Piece::Stderr(bytes)) = piece;
        write_out(&bytes)
    });
    let ended = tokio::select! {
        ended = carried => ended.map(drop),
        Some(()) = left.recv() => Ok(()),
    };
    drop(raw);
    ended.map(|()| Exit::Done)
}

async fn exec(client: &Client, args: &ExecArgs, output: Output) -> Result<Exit, Failure> {
    match (&args.all, &args.name) {
        (Some(slice), _) => exec_all(client, slice, args, output).await,
        (None, Some(name)) => exec_one(client, name, args, output).await,
        (None, None) => {
            Err(Failure::input("machine", "no machine is named").remedy("name one, or use --all SLICE"))
        }
    }
}

async fn exec_one(client: &Client, name: &str, args: &ExecArgs, output: Output) -> Result<Exit, Failure> {
    let terminal = args.tty || (!output.json && !args.no_stdin && session::on_a_terminal());
    let size = terminal.then(|| session::terminal_size().unwrap_or(TERMINAL_WITHOUT_SIZE));
    let body = ExecBody {
        argv: args.command.clone(),
        env: terminal.then(terminal_kind).flatten().into_iter().collect(),
        tty: size.map(|size| TerminalSize { rows: size.rows, columns: size.columns }),
    };
    let stream = client.upgrade(&path(name, "exec"), &body).await?;
    let raw = if terminal { RawTerminal::enter() } else { None };
    let (sender, input) = session::input_queue();
    if terminal {
        tokio::spawn(session::pass_sizes(sender.clone()));
    }
    if args.no_stdin {
        drop(sender);
    } else {
        tokio::spawn(session::pass_stdin(vec![sender], None));
    }
    let ended = session::carry(stream, input, |piece| exec_piece(name, piece, output)).await;
    drop(raw);
    let code = exit_code(name, ended?)?;
    if output.json {
        write_out(format!("{}\n", json!({ "machine": name, "exit": code })).as_bytes())?;
    }
    Ok(Exit::Program(code))
}

/// What a terminal is taken for that does not say how large it is: the size of a VT100.
const TERMINAL_WITHOUT_SIZE: consort_machine::session::WinSize =
    consort_machine::session::WinSize { rows: 24, columns: 80 };

fn terminal_kind() -> Option<(String, String)> {
    std::env::var("TERM").ok().map(|term| ("TERM".to_owned(), term))
}

fn exec_piece(machine: &str, piece: Piece, output: Output) -> Result<(), Failure> {
    match (output.json, piece) {
        (true, Piece::Stdout(bytes)) => json_piece(machine, "stdout", &bytes),
        (true, Piece::Stderr(bytes)) => json_piece(machine, "stderr", &bytes),
        (false, Piece::Stdout(bytes)) => write_out(&bytes),
        (false, Piece::Stderr(bytes)) => write_err(&bytes),
    }
}

fn json_piece(machine: &str, stream: &str, bytes: &[u8]) -> Result<(), Failure> {
    write_out(
        format!("{}\n", json!({ "machine": machine, stream: String::from_utf8_lossy(bytes) })).as_bytes(),
    )
}

fn write_err(bytes: &[u8]) -> Result<(), Failure> {
    std::io::stderr()
        .lock()
        .write_all(bytes)
        .map_err(|error| Failure::failed("output", format!("cannot write to standard error: {error}")))
}

/// A program's code as a shell knows it.
fn exit_code(machine: &str, ended: Ended) -> Result<u8, Failure> {
    match ended {
        Ended::Exit(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
        Ended::BrokeOff => Err(Failure::failed("session", format!("the connection to {machine} broke off"))
            .remedy("look at `consort machine show` and `consort peers`")),
    }
}

async fn exec_all(client: &Client, slice: &str, args: &ExecArgs, output: Output) -> Result<Exit, Failure> {
    let found: Slice = client.get(&format!("/v1/slices/{}", segment(slice))).await?;
    let body = ExecBody { argv: args.command.clone(), env: Vec::new(), tty: None };
    let mut sessions = JoinSet::new();
    let mut inputs = Vec::new();
    for machine in &found.machines {
        let (sender, input) = session::input_queue();
        inputs.push(sender);
        let (client, body, name, slice) =
            (client.clone(), body.clone(), machine.name.clone(), found.id.clone());
        sessions.spawn(async move {
            let code = exec_in(&client, &name, &slice, &body, input, output).await;
            (name, code)
        });
    }
    if args.no_stdin || std::io::stdin().is_terminal() {
        drop(inputs);
    } else {
        tokio::spawn(session::pass_stdin(inputs, None));
    }
    let mut codes = Vec::new();
    while let Some(ended) = sessions.join_next().await {
        codes.push(
            ended.map_err(|error| Failure::failed("session", format!("a session ended badly: {error}")))?,
        );
    }
    codes.sort_by(|a, b| a.0.cmp(&b.0));
    let mut exit = Exit::Done;
    for (name, code) in codes {
        match code {
            Ok(code) => {
                if output.json {
                    write_out(format!("{}\n", json!({ "machine": name, "exit": code })).as_bytes())?;
                }
                if code != 0 && exit == Exit::Done {
                    exit = Exit::Program(code);
                }
            }
            Err(failure) => {
                eprintln!("consort: {name}: {failure}");
                if output.json {
                    let error = crate::control::api::ErrorBody::from(failure.clone());
                    write_out(format!("{}\n", json!({ "machine": name, "error": error })).as_bytes())?;
                }
                if exit == Exit::Done {
                    exit = failure.exit();
                }
            }
        }
    }
    Ok(exit)
}

/// Runs the command in one of many machines; whole lines go out with the machine's name before them.
async fn exec_in(
    client: &Client,
    name: &str,
    slice: &str,
    body: &ExecBody,
    input: tokio::sync::mpsc::Receiver<Input>,
    output: Output,
) -> Result<u8, Failure> {
    let stream = client.upgrade(&path(&format!("{name}.{slice}"), "exec"), body).await?;
    let mut out = Lines::new(name);
    let mut err = Lines::new(name);
    let ended = session::carry(stream, input, |piece| match (output.json, piece) {
        (true, piece) => exec_piece(name, piece, output),
        (false, Piece::Stdout(bytes)) => write_out(&out.take(&bytes)),
        (false, Piece::Stderr(bytes)) => write_err(&err.take(&bytes)),
    })
    .await?;
    write_out(&out.rest())?;
    write_err(&err.rest())?;
    exit_code(name, ended)
}

/// The longest line that is held back for its end; a longer one goes out in parts.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Cuts a stream into lines that begin with a machine's name.
struct Lines {
    prefix: String,
    begun: Vec<u8>,
}

impl Lines {
    fn new(machine: &str) -> Self {
        Self { prefix: format!("{machine}: "), begun: Vec::new() }
    }

    /// The lines that are whole with these bytes.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.begun.push(*byte);
            }
            if *byte == b'\n' || self.begun.len() == LINE_BYTES_MAX {
                self.end_line(&mut whole);
            }
        }
        whole
    }

    /// What is left without an end of line.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if !self.begun.is_empty() {
            self.end_line(&mut rest);
        }
        rest
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.append(&mut self.begun);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_many_machines_do_not_mix_inside_a_line() {
        let mut lines = Lines::new("worker-0");
        assert_eq!(lines.take(b"one\ntw"), b"worker-0: one\n");
        assert_eq!(lines.take(b"o\n\n"), b"worker-0: two\nworker-0: \n");
        assert_eq!(lines.rest(), b"");
        assert_eq!(lines.take(b"end"), b"");
        assert_eq!(lines.rest(), b"worker-0: end\n");
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_bound() {
        let mut lines = Lines::new("w");
        let out = lines.take(&vec![b'x'; LINE_BYTES_MAX + 1]);
        assert_eq!(out.len(), LINE_BYTES_MAX + "w: \n".len());
        assert_eq!(lines.begun.len(), 1);
    }
}
