// gRPC's interoperability cases with @grpc/grpc-js: node grpc_js_client.cjs ADDRESS PROTO_FOLDER CASE
// Ends with 0 if the case passed. The .proto files are read at run time; NODE_PATH says where the packages are.
"use strict";

const assert = require("node:assert/strict");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const LARGE_REQUEST = 271828;
const LARGE_RESPONSE = 314159;
const REQUEST_SIZES = [27182, 8, 1828, 45904];
const RESPONSE_SIZES = [31415, 9, 2653, 58979];
const CALL_MS = 15000;

const [address, protos, name] = process.argv.slice(2);
const definition = loader.loadSync("grpc/testing/test.proto", { includeDirs: [protos], keepCase: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;

function connect(Service = TestService, options = {}) {
  return new Service(address, grpc.credentials.createInsecure(), options);
}

const soon = () => ({ deadline: Date.now() + CALL_MS });
const payload = (size) => ({ body: Buffer.alloc(size) });
const large = () => ({ response_size: LARGE_RESPONSE, payload: payload(LARGE_REQUEST) });
const output = (sizes, size = 0) => ({
  response_parameters: sizes.map((each) => ({ size: each })),
  payload: payload(size),
});

// A unary call's outcome: its error or response, and the metadata.
function unary(client, method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const outcome = {};
    const call = client[method](request, metadata, soon(), (error, response) => {
      outcome.error = error;
      outcome.response = response;
    });
    call.on("metadata", (initial) => (outcome.initial = initial));
    call.on("status", (status) => {
      outcome.status = status;
      setImmediate(() => resolve(outcome));
    });
  });
}

// The end of a call: its status. An error event comes beside it.
function ended(call) {
  call.on("error", () => {});
  return new Promise((resolve) => call.on("status", resolve));
}

async function collect(call) {
  const sizes = [];
  call.on("data", (message) => sizes.push(message.payload.body.length));
  const status = await ended(call);
  assert.equal(status.code, grpc.status.OK, status.details);
  return sizes;
}

async function echoStatus(message) {
  const status = { code: grpc.status.UNKNOWN, message };
  const { error } = await unary(connect(), "UnaryCall", { response_status: status });
  assert.equal(error.code, grpc.status.UNKNOWN);
  assert.equal(error.details, message);
  const call = connect().FullDuplexCall(new grpc.Metadata(), soon());
  const end = ended(call);
  call.on("data", () => {});
  call.write({ response_status: status });
  call.end();
  const found = await end;
  assert.equal(found.code, grpc.status.UNKNOWN);
  assert.equal(found.details, message);
}

const cases = {
  async empty_unary() {
    const { error, response } = await unary(connect(), "EmptyCall", {});
    assert.equal(error, null);
    assert.deepEqual(response, {});
  },

  async large_unary() {
    const { error, response } = await unary(connect(), "UnaryCall", large());
    assert.equal(error, null);
    assert.equal(response.payload.body.length, LARGE_RESPONSE);
  },

  async client_streaming() {
    const total = await new Promise((resolve, reject) => {
      const call = connect().StreamingInputCall(soon(), (error, response) =>
        error ? reject(error) : resolve(response.aggregated_payload_size),
      );
      REQUEST_SIZES.forEach((size) => call.write({ payload: payload(size) }));
      call.end();
    });
    assert.equal(total, REQUEST_SIZES.reduce((sum, size) => sum + size));
  },

  async server_streaming() {
    const call = connect().StreamingOutputCall(output(RESPONSE_SIZES), soon());
    assert.deepEqual(await collect(call), RESPONSE_SIZES);
  },

  async ping_pong() {
    const call = connect().FullDuplexCall(new grpc.Metadata(), soon());
    const end = ended(call);
    const sizes = [];
    const ask = () => call.write(output([RESPONSE_SIZES[sizes.length]], REQUEST_SIZES[sizes.length]));
    call.on("data", (message) => {
      sizes.push(message.payload.body.length);
      if (sizes.length === RESPONSE_SIZES.length) call.end();
      else ask();
    });
    ask();
    assert.equal((await end).code, grpc.status.OK);
    assert.deepEqual(sizes, RESPONSE_SIZES);
  },

  async empty_stream() {
    const call = connect().FullDuplexCall(new grpc.Metadata(), soon());
    call.end();
    assert.deepEqual(await collect(call), []);
  },

  async custom_metadata() {
    const bytes = Buffer.from([0xab, 0xab, 0xab, 0x00, 0xff]);
    const metadata = new grpc.Metadata();
    metadata.set("x-grpc-test-echo-initial", "test_initial_metadata_value");
    metadata.set("x-grpc-test-echo-trailing-bin", bytes);
    const { error, initial, status } = await unary(connect(), "UnaryCall", large(), metadata);
    assert.equal(error, null);
    assert.deepEqual(initial.get("x-grpc-test-echo-initial"), ["test_initial_metadata_value"]);
    assert.deepEqual(status.metadata.get("x-grpc-test-echo-trailing-bin"), [bytes]);
  },

  status_code_and_message: () => echoStatus("test status message"),

  special_status_message: () =>
    echoStatus("\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1f608}\t\n"),

  async unimplemented_method() {
    const { error } = await unary(connect(), "UnimplementedCall", {});
    assert.equal(error.code, grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service() {
    const { error } = await unary(connect(UnimplementedService), "UnimplementedCall", {});
    assert.equal(error.code, grpc.status.UNIMPLEMENTED);
  },

  async timeout_on_sleeping_server() {
    const call = connect().FullDuplexCall(new grpc.Metadata(), { deadline: Date.now() + 1 });
    const end = ended(call);
    call.write(output([31415], 27182));
    assert.equal((await end).code, grpc.status.DEADLINE_EXCEEDED);
  },

  async cancel_after_begin() {
    const code = await new Promise((resolve) => {
      const call = connect().StreamingInputCall(soon(), (error) => resolve(error.code));
      call.cancel();
    });
    assert.equal(code, grpc.status.CANCELLED);
  },

  async cancel_after_first_response() {
    const call = connect().FullDuplexCall(new grpc.Metadata(), soon());
    const end = ended(call);
    call.on("data", () => call.cancel());
    call.write(output([31415], 27182));
    assert.equal((await end).code, grpc.status.CANCELLED);
  },

  async compressed_unary() {
    const client = connect(TestService, {
      "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
    });
    const { error, response } = await unary(client, "UnaryCall", {
      ...large(),
      response_compressed: { value: true },
    });
    assert.equal(error, null);
    assert.equal(response.payload.body.length, LARGE_RESPONSE);
  },

  // The proxy's own case: the fields that are too many come before content-type here.
  async too_much_metadata() {
    const client = connect();
    const metadata = new grpc.Metadata();
    metadata.set("x-large", "v".repeat(20000));
    const { error } = await unary(client, "EmptyCall", {}, metadata);
    assert.equal(error.code, grpc.status.RESOURCE_EXHAUSTED);
    assert.match(error.details, /max_header_list_size/);
    assert.equal((await unary(client, "EmptyCall", {})).error, null);
  },
};

if (name === "--list") {
  console.log(Object.keys(cases).join("\n"));
  process.exit(0);
}
cases[name]().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
