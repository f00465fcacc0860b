#!/usr/bin/env node
/**
 * The `iommu` command. Only the argument parser is loaded here; each command brings
 * in what it needs, so that `--help` stays quick.
 *
 * Exit codes: 0 all is well, 1 a check failed or a request was blocked, 2 bad usage or bad input.
 */
import { Command, CommanderError } from "commander";


const collect = (value: string, list: string[]): string[] => [...list, value];

function build(): Command {
  const program = new Command("iommu");
  program
    .description("/dev/iommu in user space: run programs against a simulated IOMMU, explain tables, replay recorded units")
    .option("--plugin <module>", "load a plugin: a package or a file (repeatable)", collect, [])
    .option("--config <file>", "read plugins and the machine from this file (default: iommukit.config.json when there)")
    .enablePositionalOptions()
    .showHelpAfterError("(add --help for examples)")
    .exitOverride();

  program
    .command("tour")
    .description("live: one device, one address space, and what a mapping really does; or a story")
    .argument("[story]", "a story instead: mdev (two mediated devices of one parent), one-space, two-spaces, software-nesting, nested, guest-sva, page-fault (flows of RFC v2), guest-in-guest, or what a plugin brings (iommu list)")
    .option("--machine <name|file>", "machine to show it on (default: vtd)")
    .option("--mode <name>", "what the guest of guest-sva and page-fault has: nested, shadowed or kernel")
    .option("--sanitize", "compare every translation with the tables in memory, and report where a cache has outlived them")
    .option("--json", "one JSON object instead of text")
    .addHelpText("after", "\nExamples:\n  iommu tour\n  iommu tour mdev\n  iommu tour guest-sva --mode shadowed\n  iommu tour two-spaces --machine smmuv3\n  iommu tour --sanitize\n  iommu tour --json | jq .checks\n")
    .action(async (story: string | undefined, options, command: Command) => (await import("./commands/tour.js")).tour(story, options, command.optsWithGlobals()));

  program
    .command("run")
    .description("run a native program against the machine's /dev/iommu and /dev/vfio/devices")
    .argument("<program>", "program to run")
    .argument("[args...]", "its arguments")
    .option("--machine <name|file>", "machine that the program finds: a file, vtd, none (no devices), mock (the kernel's test command) (default: vtd)")
    .option("--door <name>", "how the program's calls get here: preload (a library in front of libc) or seccomp (the kernel sends them, for static and Go programs and raw system calls)", "preload")
    .option("--mdev <driver>", "add a parent of mediated devices, driver or driver=name, such as serial or copy (repeatable; iommu list shows them)", collect, [])
    .option("--grant <capability>", "judge calls as if the program had this capability too, such as SYS_RESOURCE (repeatable)", collect, [])
    .option("--log [file]", "print every call with its answer, and the reason of a refusal (default: to standard error)")
    .option("--sanitize", "compare every translation with the tables in memory: report stale use, missing and too narrow invalidations (exit code 1)")
    .option("--record <file>", "record every call with its answer, for iommu conform (iommufd-transcript/1)")
    .passThroughOptions()
    .addHelpText("after", "\nExamples:\n  iommu run -- ./my-vmm --device vfio0\n  iommu run --log -- ./dma-roundtrip\n  iommu run --machine machine.json --log calls.txt -- ./test\n  iommu run --record calls.jsonl -- ./test && iommu conform calls.jsonl\n  iommu run --door seccomp -- ./static-vmm\n  iommu run --mdev serial --mdev copy -- sh\n\nThe seccomp door takes x86-64 Linux 5.19; where it cannot be had, the command says why and ends with 2.\n\nThe program's exit code is passed on; 128 + n when signal n killed it.\n")
    .action(async (name: string, args: string[], options, command: Command) =>
      (await import("./commands/run.js")).run(name, args, options, command.optsWithGlobals()),
    );

  program
    .command("walk")
    .description("explain one address: every structure and level, and the verdict")
    .argument("<file>", "tables (JSON) or an ELF core, .gz too")
    .requiredOption("--rid <bb:dd.f>", "requester, such as 00:03.0")
    .requiredOption("--iova <address>", "input address, such as 0x40000000")
    .option("--pasid <n>", "PASID of the request")
    .option("--read", "the request reads (the default)")
    .option("--write", "the request writes")
    .option("--atomic", "the request reads and writes at once")
    .option("--execute", "the request reads for execution")
    .option("--access <name>", "the same by name: read, write, atomic, execute")
    .option("--privileged", "a request with PASID asks for privilege")
    .option("--registers <file>", "JSON file with the registers of an ELF core (default: the tables file of the same name)")
    .option("--reg <NAME=value>", "give a register (repeatable)", collect, [])
    .option("--iommu <name>", "kind of IOMMU, when no registers file says it")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu walk linux.tables.json.gz --rid 00:04.0 --iova 0x123457000\n  iommu walk linux.tables.json.gz --rid 00:04.0 --pasid 5 --iova 0x7f0012345000 --write --privileged\n  iommu walk guest.core --iommu vtd --reg RTADDR=0x769400 --reg CAP=0x... --reg ECAP=0x... --rid 00:01.0 --iova 0xfffff000\n")
    .action(async (file: string, options, command: Command) => (await import("./commands/walk.js")).walk(file, options, command.optsWithGlobals()));

  program
    .command("dump")
    .description("every device's address space as merged ranges")
    .argument("<file>", "tables (JSON) or an ELF core, .gz too")
    .option("--rid <bb:dd.f>", "this requester only")
    .option("--leaves", "one line a leaf, not merged")
    .option("--registers <file>", "JSON file with the registers of an ELF core (default: the tables file of the same name)")
    .option("--reg <NAME=value>", "give a register (repeatable)", collect, [])
    .option("--iommu <name>", "kind of IOMMU, when no registers file says it")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu dump linux.tables.json.gz\n  iommu dump linux.core.gz --rid 00:02.0 --leaves\n")
    .action(async (file: string, options, command: Command) => (await import("./commands/dump.js")).dump(file, options, command.optsWithGlobals()));

  program
    .command("decode")
    .description("explain a table entry, register, descriptor or fault record from its bytes, or a line of a kernel's log")
    .argument("[what...]", "IOMMU, kind, and words or bytes; a file, or - for standard input; or a line of the log")
    .option("--list", "every kind, with the manual's section")
    .option("--preset <name>", "the unit that it is for: what it lacks is named as reserved")
    .option("--reg <NAME=value>", "a register of the unit (repeatable); --NAME VALUE is the same", collect, [])
    .option("--all", "show fields that are 0, too")
    .option("--json", "JSON instead of text")
    .allowUnknownOption()
    .addHelpText(
      "after",
      `
Words begin with 0x, least significant first; without 0x they are bytes in memory order (hexdump -C and xxd may be pasted).

Examples:
  iommu decode vtd --list
  iommu decode vtd frcd 0x00000000fffff000 0xc000007100000018
  iommu decode vtd pasid-entry 0x81 0x5 0x1 0 0 0 0 0 --cap 0xd2008c40660462 --ecap 0xf050da --haw 39
  iommu decode vtd context-entry 0x8d403001 0x102 --preset legacy
  iommu decode vtd ecap 0x19e2ff0505e
  iommu decode vtd "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set"
  dmesg | iommu decode vtd log -

Exit code 1: a bit is set that must be 0, or no line of the log was known.
`,
    )
    .action(async (what: string[], options, command: Command) => (await import("./commands/decode.js")).decode(what, options, command.optsWithGlobals()));

  const acpi = program
    .command("acpi")
    .description("the firmware tables that tell an operating system of its IOMMUs: DMAR, IORT")
    .addHelpText("after", "\nExamples:\n  iommu acpi decode /sys/firmware/acpi/tables/DMAR\n  iommu acpi emit --machine smmuv3 -o iort.bin\n");
  acpi
    .command("decode")
    .description("every structure of a table, and every rule that it breaks")
    .argument("<file>", "the table's bytes, or - for standard input")
    .option("--brief", "one line a structure")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu acpi decode /sys/firmware/acpi/tables/DMAR\n  iommu acpi decode --brief dmar.bin\n  iommu acpi decode --json /sys/firmware/acpi/tables/IORT\n\nExit code 1: the table breaks a rule.\n")
    .action(async (file: string, options, command: Command) => (await import("./commands/acpi.js")).acpiDecode(file, options, command.optsWithGlobals()));
  acpi
    .command("emit")
    .description("the table that firmware of a machine would have")
    .option("--machine <name|file>", "machine to describe (default: vtd)")
    .option("--table <signature>", "the table, when the machine's units are in several")
    .requiredOption("-o, --output <file>", "where to write it; - is standard output")
    .addHelpText("after", "\nExamples:\n  iommu acpi emit -o dmar.bin && iasl -d dmar.bin\n  iommu acpi emit --machine smmuv3 -o iort.bin\n  iommu acpi emit --machine machine.json --table iort -o - | iommu acpi decode -\n")
    .action(async (options, command: Command) => (await import("./commands/acpi.js")).acpiEmit(options, command.optsWithGlobals()));

  program
    .command("fault")
    .description("how a fault comes about: lists a unit's faults, or causes one and explains it")
    .argument("<iommu>", "kind of IOMMU, such as vtd or smmuv3")
    .argument("[fault]", "code or the manual's name, such as 0x5A, SPT.3 or F_PERMISSION")
    .option("--kind <request>", "request that meets it, such as untranslated (default: the first that can)")
    .option("--suppress", "with what keeps the record off: FPD, a context descriptor's R; where there is nothing of the kind it is recorded all the same")
    .option("--all", "every variant of the fault, not the plain one alone")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu fault vtd\n  iommu fault vtd 0x5A\n  iommu fault vtd SFS.7 --kind 'translation with PASID'\n  iommu fault vtd SPT.2 --suppress --json\n  iommu fault smmuv3 F_PERMISSION\n  iommu fault smmuv3 C_BAD_STE:S2T0SZ\n\nThe configuration is built and run each time. Exit code 1: the unit did not do what the manual says; 3: nothing here causes the fault, and why.\n")
    .action(async (iommu: string, fault: string | undefined, options, command: Command) =>
      (await import("./commands/fault.js")).fault(iommu, fault, options, command.optsWithGlobals()),
    );

  program
    .command("conform")
    .description("replay recorded behaviour and compare")
    .argument("<files...>", "iommu-vectors/1, iommu-tables/1 or iommufd-transcript/1 files, .gz too")
    .option("--failures <n>", "failures to show for each file", "5")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu conform conformance/vectors/*.jsonl* conformance/tables/*.json* conformance/transcripts/*.jsonl*\n\nEnds with a line \"N passed, N failed\". A file that cannot be played counts as failed.\n")
    .action(async (files: string[], options, command: Command) => (await import("./commands/conform.js")).conform(files, options, command.optsWithGlobals()));

  const mdev = program
    .command("mdev")
    .description("mediated devices of a machine: inside iommu run, of another run (--run), or of this machine's own kernel")
    .addHelpText("after", "\nExamples:\n  iommu run --mdev serial -- sh -c 'iommu mdev create serial-2 && iommu mdev list'\n  iommu mdev types\n");
  const inRun = (command: Command): Command =>
    command.option("--run <pid>", "in this run: the process id of iommu run, or of a program in it (preload door)").option("--json", "JSON instead of text");
  const refused = "\nExit code 1: the bus refused it, for the reason that is given.\n";
  inRun(mdev.command("types"))
    .description("types of all parents, with what is left of each")
    .addHelpText("after", "\nExamples:\n  iommu mdev types\n  iommu mdev types --run 4711 --json | jq '.[].available'\n")
    .action(async (options) => (await import("./commands/mdev.js")).mdevTypes(options));
  inRun(mdev.command("list"))
    .description("mediated devices, with their nodes")
    .addHelpText("after", "\nExamples:\n  iommu mdev list\n  iommu mdev list --json | jq -r '.[].uuid'\n")
    .action(async (options) => (await import("./commands/mdev.js")).mdevList(options));
  inRun(mdev.command("create"))
    .description("make a mediated device")
    .argument("<type>", "such as serial-1")
    .option("--uuid <uuid>", "its UUID (default: a new one)")
    .option("--parent <name>", "the parent, when several have the type")
    .addHelpText("after", `\nExamples:\n  iommu mdev create serial-1\n  iommu mdev create copy-channel --uuid 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 --json\n${refused}`)
    .action(async (type: string, options) => (await import("./commands/mdev.js")).mdevCreate(type, options));
  inRun(mdev.command("remove"))
    .description("remove a mediated device; it goes when nobody has it open")
    .argument("<uuid>", "its UUID")
    .addHelpText("after", `\nExamples:\n  iommu mdev remove 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001\n${refused}`)
    .action(async (uuid: string, options) => (await import("./commands/mdev.js")).mdevRemove(uuid, options));

  program
    .command("abi")
    .description("the binary interface: requests, structs, offsets")
    .option("--c", "print a C header")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu abi --c > iommukit-abi.h\n  iommu abi --json | jq '.structs.iommu_ioas_map'\n")
    .action(async (options) => (await import("./commands/abi.js")).abi(options));

  program
    .command("list")
    .description("what is loaded: IOMMUs, device models, decoders")
    .option("--presets", "units by name, with what their registers announce")
    .option("--json", "JSON instead of text")
    .addHelpText("after", "\nExamples:\n  iommu list\n  iommu list --presets\n  iommu --plugin ./my-iommu.js list\n")
    .action(async (options, command: Command) => (await import("./commands/list.js")).list(options, command.optsWithGlobals()));
  return program;
}

/** What went wrong, for a person. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (process.env.IOMMUKIT_DEBUG) return error.stack ?? error.message;
  return error.message;
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // "iommu dump … | head" closes the pipe: that is no error.
  if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
  throw error;
});

try {
  process.exitCode = 0;
  await build().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    process.stderr.write(`iommu: ${explain(error)}\n`);
    process.exitCode = 2;
  }
}
