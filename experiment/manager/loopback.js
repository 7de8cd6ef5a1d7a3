// Preloaded into Node by NODE_OPTIONS (see loopback.py); it acts in NNI's manager and nowhere else.
const path = require('path');

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
  const python = process.argv[process.argv.indexOf('--python-interpreter') + 1];
  process.env.PATH = path.dirname(python) + path.delimiter + process.env.PATH;
}
