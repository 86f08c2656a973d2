//! The command line as it was written: every command of the contract (design.md section 8), and nothing of what they do.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Virtual clusters over hosts of many owners, with no head node.
#[derive(Debug, Parser)]
#[command(name = "consort", version, propagate_version = true)]
pub struct Cli {
    /// Print one JSON document (one per line for streams) on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's socket [default: consort.sock in the default state directory]
    #[arg(long, global = true, env = "CONSORT_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Emulate hosts in namespaces, run real nodes and one slice on them, and prove that it works
    Demo(crate::demo::DemoArgs),
    /// Run the daemon in the foreground
    Node(NodeArgs),
    /// Print a ticket: all that a newcomer needs, in one string
    Invite(InviteArgs),
    /// Join the overlay of a ticket
    Join(JoinArgs),
    /// List who is in the overlay
    Members,
    /// Put a member, an invitation or a key out of the overlay
    Revoke(RevokeArgs),
    /// Show the state of this node
    Status,
    /// Show the paths to other nodes, or why there is none
    Peers,
    /// Say why the path between two hosts is as it is
    Why(WhyArgs),
    /// Check what this host needs to run a node
    Doctor(DoctorArgs),
    /// The operator's topology
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// Slices: machines, networks and routers, as one unit
    #[command(subcommand)]
    Slice(SliceCommand),
    /// Machines of slices
    #[command(subcommand)]
    Machine(MachineCommand),
    /// Images of machines
    #[command(subcommand)]
    Image(ImageCommand),
    /// Networks
    #[command(subcommand)]
    Net(NetCommand),
    /// Measure, each figure with its baseline in the same run
    Bench(crate::bench::BenchArgs),
}

/// `consort node`
#[derive(Debug, Default, Args)]
pub struct NodeArgs {
    /// Where all state of the node is kept [default: /var/lib/consort, or ~/.local/state/consort]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the control plane (QUIC, TCP); the data plane (UDP) takes the next port
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Join the overlay of this ticket
    #[arg(long, value_name = "TICKET")]
    pub join: Vec<String>,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "CONSORT_LOG", default_value = "info")]
    pub log: String,
}

/// `consort invite`
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// How long the ticket is good, such as 1h or 7d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub valid: String,
}

/// `consort join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `consort invite` printed on a member
    pub ticket: String,
}

/// `consort revoke`
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// A HostId or a key as `consort members` shows it
    pub key: String,
}

/// `consort why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// One host
    pub host_a: String,
    /// The other host [default: this one]
    pub host_b: Option<String>,
}

/// `consort doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The state directory to check for
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The configuration file to check
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `consort topology`
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Check a topology file, or whether the topology that holds fits those who are there
    Check(OptionalFile),
    /// Show what a topology file would change
    Plan(OptionalFile),
    /// Sign a topology file and tell it to every member
    Apply(TopologyApplyArgs),
    /// Show the topology that holds, or that of a file
    Show(TopologyShowArgs),
    /// Show or change who may apply a topology beside the founder of the overlay
    Operators(OperatorsArgs),
}

/// `consort topology apply`
#[derive(Debug, Args)]
pub struct TopologyApplyArgs {
    /// The file
    pub file: Option<PathBuf>,
    /// Apply it although members could reach nobody
    #[arg(long)]
    pub force: bool,
}

/// `consort topology show`
#[derive(Debug, Args)]
pub struct TopologyShowArgs {
    /// The file
    pub file: Option<PathBuf>,
    /// Draw it: print an SVG file
    #[arg(long, conflicts_with = "json")]
    pub svg: bool,
}

/// `consort topology operators`
#[derive(Debug, Args)]
pub struct OperatorsArgs {
    /// Let this host apply topologies (on the founder's node only)
    #[arg(long, value_name = "HOST")]
    pub add: Vec<String>,
    /// Let it no more; what it applied is void
    #[arg(long, value_name = "HOST")]
    pub remove: Vec<String>,
}

/// A file that may be given.
#[derive(Debug, Args)]
pub struct OptionalFile {
    /// The file
    pub file: Option<PathBuf>,
}

/// `consort slice`
#[derive(Debug, Subcommand)]
pub enum SliceCommand {
    /// Show what would be granted, without reserving
    Plan(SliceFile),
    /// Create the slice of a file
    Create(SliceCreate),
    /// List slices
    Ls,
    /// Show one slice
    Show(Named),
    /// Show what happened to a slice
    Events(Named),
    /// Give a slice more time
    Extend(ExtendArgs),
    /// End a slice and give everything back
    Rm(Named),
    /// Add machines
    Grow(Resize),
    /// Give machines back
    Shrink(Resize),
}

/// A slice file.
#[derive(Debug, Args)]
pub struct SliceFile {
    /// The slice file (TOML)
    pub file: PathBuf,
}

/// `consort slice create`
#[derive(Debug, Args)]
pub struct SliceCreate {
    /// The slice file (TOML)
    pub file: PathBuf,
    /// Wait until every machine runs and can be reached
    #[arg(long)]
    pub wait: bool,
}

/// A name.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name
    pub name: String,
}

/// `consort slice extend`
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// The slice's name
    pub name: String,
    /// How much longer, such as 2h
    #[arg(long, value_name = "DURATION")]
    pub by: String,
}

/// `consort slice grow|shrink`
#[derive(Debug, Args)]
pub struct Resize {
    /// The slice's name
    pub name: String,
    /// How many machines
    #[arg(long)]
    pub machines: u32,
}

/// `consort machine`
///
/// A machine is named as it is inside its slice, `worker-0`, or with its slice, `worker-0.mpi`.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// List machines
    Ls,
    /// Show one machine
    Show(Named),
    /// Start a stopped machine
    Start(Named),
    /// Stop a machine
    Stop(Named),
    /// Stop giving it CPU
    Pause(Named),
    /// Give it CPU again
    Resume(Named),
    /// Save its state
    Checkpoint(Named),
    /// Go back to a saved state
    Restore(Named),
    /// Make another like it
    Clone(Named),
    /// Move it to another host
    Migrate(Named),
    /// Attach to its console (leave with ctrl-])
    Console(Named),
    /// Show what it wrote
    Logs(LogsArgs),
    /// Run a command in it
    Exec(ExecArgs),
}

/// `consort machine logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The machine's name
    pub name: String,
    /// Go on with what it writes from now
    #[arg(long, short)]
    pub follow: bool,
}

/// `consort machine exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The machine's name
    #[arg(required_unless_present = "all")]
    pub name: Option<String>,
    /// Run it in every machine of this slice
    #[arg(long, value_name = "SLICE", conflicts_with_all = ["name", "tty"])]
    pub all: Option<String>,
    /// Give the command a terminal [default: when standard input and output are one]
    #[arg(long, short)]
    pub tty: bool,
    /// Do not pass standard input on
    #[arg(long)]
    pub no_stdin: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `consort image`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image
    Build(Anything),
    /// Import an image
    Import(Anything),
    /// Export an image
    Export(Anything),
    /// List images
    Ls(Anything),
    /// Remove an image
    Rm(Anything),
    /// Fetch an image
    Pull(Anything),
}

/// Arguments of a command this version cannot do; whatever they are, the answer is the same.
#[derive(Debug, Args)]
pub struct Anything {
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// `consort net`
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Make a network by itself, which every host of the overlay may join
    Create(NetCreateArgs),
    /// Put this host on a network by itself: it gets a device with addresses
    Join(NetJoinArgs),
    /// List networks
    Ls,
    /// Show one network with its counters, or who sends whom how much on it
    Show(NetShowArgs),
    /// Leave a network by itself
    Leave(Named),
    /// Capture a network's frames
    Capture(Anything),
}

/// `consort net show`
#[derive(Debug, Args)]
pub struct NetShowArgs {
    /// Its name
    pub name: String,
    /// Instead: what each of its hosts sends each other, now, and the pattern of it; takes a second
    #[arg(long)]
    pub traffic: bool,
}

/// `consort net create`
#[derive(Debug, Args)]
pub struct NetCreateArgs {
    /// Its name: lower-case letters, digits, `-`
    pub name: String,
    /// Its IPv4 addresses, such as 10.7.0.0/24, or `off` [default: chosen]
    #[arg(long, value_name = "CIDR")]
    pub ipv4: Option<String>,
    /// Its IPv6 addresses, such as fd07::/64, or `off` [default: chosen]
    #[arg(long, value_name = "CIDR")]
    pub ipv6: Option<String>,
    /// The largest payload of a frame [default: as `[data] mtu` of this node]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
}

/// `consort net join`
#[derive(Debug, Args)]
pub struct NetJoinArgs {
    /// Its name; NAME@ID where several have the name
    pub name: String,
    /// This host's IPv4 address on it, such as 10.7.0.5/24 [default: chosen]
    #[arg(long, value_name = "ADDR/LEN")]
    pub ipv4: Option<String>,
    /// The name of the device [default: the network's name, or consort0, consort1, … where that does not fit or is taken]
    #[arg(long, value_name = "DEV")]
    pub device: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_and_socket_stand_anywhere() {
        let cli = Cli::try_parse_from(["consort", "slice", "ls", "--json", "--socket", "/s"]).unwrap();
        assert!(cli.json);
        assert_eq!(cli.socket, Some(PathBuf::from("/s")));
    }

    #[test]
    fn exec_takes_its_command_after_two_dashes() {
        let cli =
            Cli::try_parse_from(["consort", "machine", "exec", "worker-0", "--", "ping", "-c", "1"]).unwrap();
        let Command::Machine(MachineCommand::Exec(exec)) = cli.command else { panic!("exec expected") };
        assert_eq!(exec.name.as_deref(), Some("worker-0"));
        assert_eq!(exec.command, ["ping", "-c", "1"]);
        assert!(Cli::try_parse_from(["consort", "machine", "exec", "--", "ping"]).is_err());
        let all = Cli::try_parse_from(["consort", "machine", "exec", "--all", "mpi", "--", "ping"]).unwrap();
        let Command::Machine(MachineCommand::Exec(exec)) = all.command else { panic!("exec expected") };
        assert_eq!(exec.all.as_deref(), Some("mpi"));
    }

    #[test]
    fn every_command_of_the_contract_parses() {
        for line in [
            "demo --hosts 3 --machines 4 --keep --json",
            "node --state-dir d --config f --listen 127.0.0.1:0 --listen [::1]:0 --join t",
            "invite",
            "join t",
            "members",
            "revoke k",
            "status",
            "peers",
            "why a b",
            "doctor",
            "topology check f",
            "topology show",
            "topology show f --svg",
            "topology plan f",
            "topology apply f --force",
            "topology operators --add h",
            "slice plan f",
            "slice create f --wait",
            "slice ls",
            "slice show n",
            "slice events n",
            "slice extend n --by 2h",
            "slice rm n",
            "slice grow n --machines 2",
            "slice shrink n --machines 2",
            "machine ls",
            "machine checkpoint n",
            "machine logs n",
            "machine console n",
            "image build x",
            "image pull x --from y",
            "net create n --ipv4 10.0.0.0/24 --ipv6 off --mtu 1400",
            "net join n --ipv4 10.0.0.1/24 --device d",
            "net leave n",
            "net ls",
            "net show n",
            "net show n --traffic",
            "bench frames",
        ] {
            let words = std::iter::once("consort").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
