// Opens the tab in Firefox and prints a line of JSON for each of ten checks: its name, and null or
// what was wrong. Arguments: the address of the server, the path of Firefox, the folder node_modules.

import { createRequire } from 'node:module';

const [address, executablePath, modules] = process.argv.slice(2);
const puppeteer = createRequire(import.meta.url)(`${modules}/puppeteer-core`);
const browser = await puppeteer.launch({ browser: 'firefox', executablePath, headless: true, protocol: 'webDriverBiDi' });
const page = await browser.newPage();
await page.setViewport({ width: 1280, height: 900 });
const errors = [];
page.on('pageerror', (error) => errors.push(String(error)));

async function open(view = '') {
  await page.goto('about:blank');
  await page.goto(`${address}/data/plugin_entry.html?name=feature_vis#${view}`);
  await page.waitForFunction(() => document.querySelector('.card, .network-table') && !document.querySelector('main .waiting'));
}

const textOf = (selector) => page.$eval(selector, (node) => node.textContent);

function expect(found, wanted) {
  if (found !== wanted) throw new Error(`expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`);
}

const until = (condition, ...values) => page.waitForFunction(condition, { timeout: 10_000 }, ...values);
const unit = `p.feature_vis.open=${encodeURIComponent('Channel#conv1_0')}`;

const checks = {
  async 'every target has its picture'() {
    await open();
    expect(await page.$$eval('.card canvas', (all) => all.filter(({ width }) => width > 1).length), 12);
  },
  async 'keys move the epoch'() {
    await page.focus('main');
    await page.keyboard.press('Home');
    await until(() => document.querySelector('.app > .timeline .epoch').textContent === 'untrained');
    await page.keyboard.press('ArrowRight');
    await until(() => document.querySelector('.app > .timeline .epoch').textContent === 'epoch 0');
  },
  async 'space plays'() {
    await page.keyboard.press(' ');
    await until(() => document.querySelector('.app > .timeline .play').ariaLabel === 'Pause');
    await page.keyboard.press('End');
  },
  async 'a filter leaves what matches'() {
    await open();
    await page.type('input[aria-label^="Filter by name"]', 'logits');
    await until(() => document.querySelectorAll('.card').length === 4);
  },
  async 'the page of a unit opens, and Back closes it'() {
    await open();
    await page.click('.card[data-name="Channel#conv1_0"]');
    await until(() => document.querySelector('.viewer[open] h2')?.textContent === 'Channel#conv1_0');
    await page.goBack();
    await until(() => !document.querySelector('.viewer[open]'));
  },
  async 'real images and the chart are on it'() {
    await open(unit);
    await until(() => document.querySelectorAll('.real-images > li img').length >= 4);
    expect(await page.$$eval('.plot .line-score', (all) => all.length), 1);
  },
  async 'nearest units are found'() {
    await page.click('.nearest summary');
    await until(() => document.querySelectorAll('.neighbour').length === 1);
  },
  async 'two epochs are compared'() {
    await page.click('.swipe summary');
    await until(() => [...document.querySelectorAll('.swipe-frame canvas')].every(({ width }) => width > 1));
  },
  async 'the network has a row a layer, and histograms'() {
    await open('p.feature_vis.page=network');
    expect(await page.$$eval('.network-table tbody tr', (all) => all.length), 3);
    await page.click('.of-layer');
    await until(() => document.querySelectorAll('.ridge').length === 13);
  },
  async 'a figure is drawn'() {
    await open();
    await page.click('.figure-button');
    await until(() => document.querySelectorAll('.preview svg image').length === 24);
    expect(await textOf('.figure h2'), 'Figure');
  },
};

for (const [name, check] of Object.entries(checks)) {
  let wrong = null;
  try {
    await check();
  } catch (error) {
    wrong = String(error);
  }
  if (errors.length) wrong = `${wrong ?? ''} ${errors.splice(0).join('; ')}`;
  console.log(JSON.stringify([name, wrong]));
}
await browser.close();
