// Preloaded into Node by NODE_OPTIONS (see loopback.py); it acts in NNI's manager and nowhere else. What binds and guards
// the portal comes first; what its page is given comes last, and can fail without harm to that.
const fs = require('fs');
const path = require('path');

const argument = (name) => process.argv[process.argv.indexOf(name) + 1];

if ((process.argv[1] || '').endsWith(path.join('nni_node', 'main.js'))) {
  // NNI gives its portal a port and no host, so that Node would listen on every interface.
  const { Server } = require('net');
  const listen = Server.prototype.listen;
  const host = process.env.NNI_PORTAL_HOST || '127.0.0.1';
  Server.prototype.listen = function (port, ...rest) {
    const bare = typeof port === 'number' && typeof rest[0] !== 'string';
    return listen.call(this, port, ...(bare ? [host] : []), ...rest);
  };

  // `python` in a trial's command is the Python that started the manager, also where no
  // virtual environment is active.
  process.env.PATH = path.dirname(argument('--python-interpreter')) + path.delimiter + process.env.PATH;

  // The portal has no login, and does what any request says. A page in the user's own browser must not reach it: not
  // by a name of its own that it lets point to this machine (Host), and not from another address (Origin).
  const everywhere = ['0.0.0.0', '::'].includes(host);
  const own = (name) => everywhere || [host, `[${host}]`].includes(name) || /^(localhost|127(\.\d+){3}|\[::1\])$/.test(name);
  const allowed = ({ url, headers }) => {
    try {
      const { host: address, hostname } = new URL('http://' + headers.host);
      const sameOrigin = headers.origin === undefined || new URL(headers.origin).host === address;
      return own(hostname) && sameOrigin && !leadsOut(url);
    } catch {
      return false; // no name, or not one
    }
  };

  // Below /logs, in whatever case, it gives the files of the experiment's log folder, and would follow links out of it.
  const leadsOut = (url) => {
    const file = decodeURIComponent(url.split('?')[0]).split(/^\/+logs\//i)[1];
    const folder = path.join(argument('--experiments-directory'), argument('--experiment-id'), 'log');
    if (file === undefined || !fs.existsSync(path.join(folder, file))) {
      return false;
    }
    return !fs.realpathSync(path.join(folder, file)).startsWith(fs.realpathSync(folder) + path.sep);
  };

  const http = require('http');
  const emit = http.Server.prototype.emit;
  http.Server.prototype.emit = function (event, request, response, ...rest) {
    if (!['request', 'checkContinue', 'upgrade'].includes(event) || allowed(request)) {
      return emit.call(this, event, request, response, ...rest);
    }
    if (event === 'upgrade') {
      response.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n');
    } else {
      response.writeHead(403, { 'Content-Type': 'text/plain' }).end("Not by this name, or from another page's address.\n");
    }
    return true;
  };

  // From the web the page would fetch its icons and the fonts of its text, both from where `FabricConfig` says, a setting
  // of Fluent UI, of which it is made. So one line is put in the page: the icons are the font that icons.py drew, under
  // each of the names that Fluent UI has for it, and the text has the system's fonts. That happens between the disk and
  // the server, which tells the new length and tag, answers ranges, and does not compress. Where no font was drawn, the
  // icons are fetched as ever.
  const keepOffline = () => {
    const font = path.join(path.dirname(process.argv[1]), '..', 'nni_icons.woff');
    const drawn = fs.existsSync(font);
    const configuration = JSON.stringify({ fontBaseUrl: '', ...(drawn && { iconBaseUrl: './icons/' }) });
    const page = path.resolve('static', 'index.html'); // as NNI's server names it
    const line = `<head><script>window.FabricConfig = ${configuration}</script>`;
    const html = Buffer.from(fs.readFileSync(page, 'utf8').replace('<head>', line));
    const started = new Date();

    const icons = path.resolve('static', 'icons', 'fabric-icons-');
    const served = (file) => (drawn && String(file).startsWith(icons) ? font : file);
    const { stat, createReadStream } = fs;
    fs.stat = (file, ...rest) => {
      const callback = rest.pop();
      stat(served(file), ...rest, (error, found) => {
        callback(error, error || file !== page ? found : Object.assign(found, { size: html.length, mtime: started }));
      });
    };
    fs.createReadStream = (file, options) => {
      const { start = 0, end = html.length - 1 } = options || {};
      const { Readable } = require('stream');
      return file === page ? Readable.from([html.subarray(start, end + 1)]) : createReadStream(served(file), options);
    };
  };
  try {
    keepOffline();
  } catch {
    // Another page than NNI 3.0's: it stays as it is.
  }
}
