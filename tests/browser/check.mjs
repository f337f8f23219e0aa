// Uses an endpoint as pages of other origins do, in a real browser: browsers alone decide what a
// page may send and read, and no client that sets headers by hand shows whether they agree.
//
// Usage: node check.mjs ENDPOINT PORT PACKAGES
//   ENDPOINT  base URL of the endpoint, which allows the origin http://127.0.0.1:PORT
//   PORT      where the page is served that is allowed
//   PACKAGES  the folder that holds node_modules
// CHROMIUM names the browser's program.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const [endpoint, port, packages] = process.argv.slice(2);
const here = path.dirname(fileURLToPath(import.meta.url));
const { chromium } = createRequire(path.join(packages, "package.json"))("playwright-core");
const yasgui = path.join(packages, "node_modules/@zazuko/yasgui/build");

// Far more than anything takes here; what is waited for is always a condition.
const DEADLINE_MS = 60_000;
// No other run has this subject, so that one on data of before finds its own.
const subject = `urn:quadraft:browser:${randomUUID()}`;
const predicate = "urn:quadraft:browser:title";
const query = `SELECT ?title WHERE { <${subject}> <${predicate}> ?title } ORDER BY ?title`;
const insert = (title) => `INSERT DATA { <${subject}> <${predicate}> "${title}" }`;

class Failure extends Error {}

function ensure(condition, message) {
  if (!condition) throw new Failure(message);
}

function ensureEqual(found, expected, what) {
  const [left, right] = [found, expected].map((value) => JSON.stringify(value));
  ensure(left === right, `${what}: ${left} instead of ${right}`);
}

// What the browser tells of the network comes on another way than what the page tells, so it may
// come a moment later.
async function told(list, count, deadlineMs) {
  const until = Date.now() + deadlineMs;
  while (list.length < count && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return list;
}

async function ensureTold(list, expected, what) {
  ensureEqual(await told(list, expected.length, DEADLINE_MS), expected, what);
}

// Serves the page and YASGUI on a port of this machine; 0 takes any that is free.
async function serve(wanted) {
  const files = {
    "/": [path.join(here, "page.html"), "text/html"],
    "/yasgui.min.js": [path.join(yasgui, "yasgui.min.js"), "text/javascript"],
    "/yasgui.min.css": [path.join(yasgui, "yasgui.min.css"), "text/css"],
  };
  const server = http.createServer(async (request, response) => {
    const file = files[new URL(request.url, "http://127.0.0.1").pathname];
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    try {
      const content = await readFile(file[0]);
      response.writeHead(200, { "Content-Type": `${file[1]}; charset=utf-8` }).end(content);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject).listen(wanted, "127.0.0.1", resolve);
  });
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

// Sends a request as a client that is no browser does: it says nothing of an origin.
async function directly(route, type, body) {
  const headers = { "Content-Type": type, Accept: "text/csv" };
  return new Promise((resolve, reject) => {
    const request = http.request(`${endpoint}${route}`, { method: "POST", headers }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(parts).toString();
        if (answer.statusCode < 300) resolve(text);
        else reject(new Failure(`${route} answered ${answer.statusCode}: ${text}`));
      });
    });
    request.on("error", reject).end(body);
  });
}

// The titles that are there, as a client finds them that is no browser.
async function titles() {
  const text = await directly("/query", "application/sparql-query", query);
  return text.trim().split(/\r?\n/).slice(1);
}

// One tab on a page, with what the browser sent for it.
class Tab {
  static async open(browser, origin) {
    // A context of its own: nothing is remembered from one page to the other, preflights included.
    const context = await browser.newContext();
    context.setDefaultTimeout(DEADLINE_MS);
    const tab = new Tab();
    tab.page = await context.newPage();
    // Requests are watched by the browser's own protocol and never intercepted: one that
    // intercepts has to answer preflights itself.
    const protocol = await context.newCDPSession(tab.page);
    tab.preflights = [];
    tab.refusals = [];
    protocol.on("Network.responseReceived", ({ type, response }) => {
      if (type === "Preflight") tab.preflights.push(response.url);
    });
    protocol.on("Network.loadingFailed", ({ corsErrorStatus }) => {
      if (corsErrorStatus) tab.refusals.push(corsErrorStatus.corsError);
    });
    await protocol.send("Network.enable");
    await tab.page.goto(`${origin}/?endpoint=${encodeURIComponent(endpoint)}`);
    await tab.page.locator(".yasqe .CodeMirror").waitFor();
    return tab;
  }

  // Fails with what the page was told, which is little, and with why the browser refused.
  async ensureAnswered(error) {
    if (error === undefined) return;
    throw new Failure(`${error}; the browser: ${await told(this.refusals, 1, 2000)}`);
  }

  // Types a query into YASGUI, runs it, and gives the rows of the table or the error shown.
  async ask(text) {
    await this.page.locator(".yasqe .CodeMirror").click();
    await this.page.keyboard.press("Control+A");
    await this.page.keyboard.insertText(text);
    // What completes what is typed would cover the button.
    await this.page.keyboard.press("Escape");
    await this.page.locator(".yasqe_queryButton").click();
    const table = this.page.locator(".yasr_results table.dataTable tbody");
    const error = this.page.locator(".yasr_results .errorResult");
    await table.or(error).first().waitFor();
    if (await error.isVisible()) return { error: `YASGUI shows: ${await error.innerText()}` };
    // The first cell of a row is its number.
    const cells = (all) => all.map((row) => [...row.cells].slice(1).map((cell) => cell.innerText));
    return { rows: await table.locator("tr").evaluateAll(cells) };
  }

  // Sends a request by the page's own fetch, and gives what the page may read of the answer.
  async fetch(route, headers, body) {
    return this.page.evaluate(
      async ([url, headers, body]) => {
        try {
          const answer = await fetch(url, { method: "POST", headers, body });
          return {
            status: answer.status,
            logIndex: answer.headers.get("Quadraft-Log-Index"),
            text: await answer.text(),
          };
        } catch (error) {
          return { error: String(error) };
        }
      },
      [`${endpoint}${route}`, headers, body],
    );
  }
}

function ensureLogIndex(answer, what) {
  ensure(/^\d+$/.test(answer.logIndex ?? ""), `the page cannot read Quadraft-Log-Index of ${what}`);
}

const UPDATE = { "Content-Type": "application/sparql-update" };

async function allowedPage(browser, origin, check) {
  const tab = await Tab.open(browser, origin);

  await check("a query typed into YASGUI shows its rows", async () => {
    const { rows, error } = await tab.ask(query);
    await tab.ensureAnswered(error);
    ensureEqual(rows.map(([cell]) => cell.replace(/^"|"$/g, "")), ["first", "second"], "the rows");
  });

  let written;
  await check("an update from the page is accepted, after a preflight", async () => {
    // A key, since a page too has to be able to send a write again.
    const headers = { ...UPDATE, "Idempotency-Key": randomUUID() };
    written = await tab.fetch("/update", headers, insert("third"));
    await tab.ensureAnswered(written.error);
    await ensureTold(tab.preflights, [`${endpoint}/update`], "the preflights");
    ensureEqual(written.status, 204, `the status (${written.text})`);
    ensureEqual(await titles(), ["first", "second", "third"], "the titles");
  });

  await check("the page can read Quadraft-Log-Index, and wait for it in a later query", async () => {
    ensureLogIndex(written, "an update");
    const headers = {
      "Content-Type": "application/sparql-query",
      Accept: "text/csv",
      "Quadraft-Consistency": "session",
      "Quadraft-Minimum-Index": written.logIndex,
    };
    const answer = await tab.fetch("/query", headers, query);
    await tab.ensureAnswered(answer.error);
    ensureEqual(answer.status, 200, `the status (${answer.text})`);
    ensureLogIndex(answer, "a query");
    ensure(Number(answer.logIndex) >= Number(written.logIndex), `the index is ${answer.logIndex}`);
    const found = answer.text.trim().split(/\r?\n/).slice(1);
    ensureEqual(found, ["first", "second", "third"], "the titles");
  });

  await check("YASGUI shows what the update wrote", async () => {
    // In the next tab: this one still shows the rows of before, and they must not be taken for new.
    const next = await Tab.open(browser, origin);
    const { rows, error } = await next.ask(query);
    await next.ensureAnswered(error);
    ensureEqual(rows.length, 3, "the number of rows");
  });
}

async function otherPage(browser, origin, check) {
  const tab = await Tab.open(browser, origin);
  const before = await titles();

  await check("a page of an origin that is not allowed cannot read a query's answer", async () => {
    const { rows, error } = await tab.ask(query);
    ensure(error !== undefined, `YASGUI shows ${JSON.stringify(rows)}`);
    await ensureTold(tab.refusals, ["MissingAllowOriginHeader"], "why the browser refused");
  });

  await check("its update is stopped by the browser at the preflight", async () => {
    const answer = await tab.fetch("/update", UPDATE, insert("of another page"));
    ensure(answer.error, `the page got ${JSON.stringify(answer)}`);
    const refusals = ["MissingAllowOriginHeader", "PreflightMissingAllowOriginHeader"];
    await ensureTold(tab.refusals, refusals, "why the browser refused");
    ensureEqual(await titles(), before, "the titles");
  });

  await check("its plain form, which needs no preflight, changes nothing either", async () => {
    // Browsers send this for any page, and only then look whether the page may read the answer.
    const form = new URLSearchParams({ update: insert("of another page") }).toString();
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const answer = await tab.fetch("/update", headers, form);
    ensure(answer.error, `the page got ${JSON.stringify(answer)}`);
    ensureEqual(await titles(), before, "the titles");
  });
}

async function main() {
  await directly("/update", UPDATE["Content-Type"], insert("first"));
  await directly("/update", UPDATE["Content-Type"], insert("second"));
  const allowed = await serve(Number(port));
  const other = await serve(0);
  const hosts = ["127.0.0.1", new URL(endpoint).hostname].map((name) => `, EXCLUDE ${name}`);
  // With a profile of its own, which goes with it.
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    timeout: DEADLINE_MS,
    args: [
      // Root has no other choice, as in a container; all pages are this program's own.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      // Nothing but the page and the endpoint is asked for anything.
      `--host-resolver-rules=MAP * ~NOTFOUND${hosts.join("")}`,
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  try {
    const check = async (name, body) => {
      try {
        await body();
      } catch (error) {
        throw new Failure(`FAILED  ${name}\n        ${error.message}`);
      }
      console.log(`ok      ${name}`);
    };
    const version = `Chromium ${browser.version()}`;
    console.log(`browser: ${version}, page ${allowed.origin}, endpoint ${endpoint}`);
    await allowedPage(browser, allowed.origin, check);
    await otherPage(browser, other.origin, check);
  } finally {
    await browser.close();
    for (const { server } of [allowed, other]) {
      server.close();
      server.closeAllConnections();
    }
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Failure ? error.message : error);
  process.exitCode = 1;
}
