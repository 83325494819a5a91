// A hub, doors and `doorctl dashboard`, each in its own process, in a temporary folder.

import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const bin = process.env.DOORFLEET_BIN;

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export class Site {
  folder = mkdtempSync(join(tmpdir(), 'doorfleet-page-'));
  processes = [];
  agents = new Map();

  async start() {
    this.ports = { mqtt: await freePort(), https: await freePort() };
    this.data = join(this.folder, 'hub');
    await this.startHub();
    const files = [`${this.data}/service-connection-string`, '--ca', `${this.data}/ca.pem`];
    await this.doorctl('context', 'add', 'site', '--connection-string-file', ...files);
  }

  async startHub() {
    const { mqtt, https } = this.ports;
    const flags = ['--name', 'localhost', '--listen', '127.0.0.1', '--data', this.data];
    const ports = ['--mqtt-port', mqtt, '--https-port', https].map(String);
    this.hub = await this.spawn('door-hub', ['serve', ...flags, ...ports], 'operator');
  }

  /** The hub's own page. */
  get page() {
    return `https://localhost:${this.ports.https}/ui/`;
  }

  /** Kills the hub as a power cut does. */
  killHub() {
    return this.kill(this.hub);
  }

  async kill(child) {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  /** Adds a policy; returns its key. */
  async policy(name, rights, bounds) {
    const words = ['policy', 'add', name, '--rights', rights, '--data', this.data];
    const file = join(this.folder, `${name}.connection-string`);
    const more = bounds ? ['--bounds', JSON.stringify(bounds)] : [];
    await this.run('door-hub', [...words, ...more, '--out', file]);
    return /SharedAccessKey=(.*)$/m.exec(readFileSync(file, 'utf8'))[1];
  }

  removePolicy(name) {
    return this.run('door-hub', ['policy', 'remove', name, '--data', this.data]);
  }

  /** Adds doors, given as lines of CSV, and starts their agents. */
  async doors(head, lines) {
    const table = join(this.folder, 'doors.csv');
    writeFileSync(table, [head, ...lines].join('\n'));
    await this.doorctl('devices', 'add', '--from', table, '--keys-folder', this.folder);
    for (const line of lines) {
      const [id] = line.split(',');
      const settings = [
        '[hub]',
        `connection_string_file = "${id}.connection-string"`,
        'ca_file = "hub/ca.pem"',
        `mqtt_port = ${this.ports.mqtt}`,
        '[strike]\nkind = "motor-lock"',
        '[board]\nkind = "simulated"',
        `[state]\ndirectory = "${id}.state"`,
      ];
      writeFileSync(this.settings(id), settings.join('\n'));
      await this.plugIn(id);
    }
  }

  async plugIn(id) {
    this.agents.set(id, await this.spawn('door-agent', ['--config', this.settings(id)]));
  }

  /** Takes its power away. */
  unplug(id) {
    return this.kill(this.agents.get(id));
  }

  settings(id) {
    return join(this.folder, `${id}.toml`);
  }

  /** Acts as a person at the door. */
  sim(id, action) {
    return this.run('door-agent', ['sim', action, '--config', this.settings(id)]);
  }

  /** The address of a new `doorctl dashboard`. */
  async dashboard() {
    const server = await this.spawn('doorctl', ['dashboard', '--no-open'], 'http://');
    return server.line;
  }

  doorctl(...words) {
    return this.run('doorctl', words);
  }

  async run(program, words) {
    const { stdout } = await promisify(execFile)(join(bin, program), words, this.options());
    return stdout;
  }

  options() {
    const env = { ...process.env, DOORCTL_CONFIG: join(this.folder, 'doorctl.toml') };
    return { cwd: this.folder, env, encoding: 'utf8' };
  }

  /** Starts a program; waits for a line of its stdout with `part`, if given. */
  spawn(program, words, part) {
    const stdio = ['ignore', part ? 'pipe' : 'ignore', 'ignore'];
    const child = spawn(join(bin, program), words, { ...this.options(), stdio });
    this.processes.push(child);
    return new Promise((resolve, reject) => {
      child.once('exit', (status) => reject(new Error(`${program} ended with ${status}`)));
      if (!part) return resolve(child);
      createInterface(child.stdout).on('line', (line) => {
        if (line.includes(part)) resolve(Object.assign(child, { line }));
      });
    });
  }

  stop() {
    for (const child of this.processes) child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }
}
