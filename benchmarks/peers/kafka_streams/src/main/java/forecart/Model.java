package forecart;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The bundle's step, an event at a time; the numeric inputs are 0, as in the bare loop. Where there is a graph of the
 * catalog, the items of the largest products with the query come with it.
 */
final class Model {
    /** The probability of a purchase by horizon, the next state, and items, null without a catalog. */
    record Answer(Map<String, Double> intent, byte[] state, List<String> items) {}

    /** A tensor of the state: its place among the packed bytes is its place among the parts. */
    private record Part(String name, int size, boolean whole) {
        int bytes() {
            return size * (whole ? Long.BYTES : Float.BYTES);
        }
    }

    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession session;
    private final OrtSession catalog;
    private final List<String> ids = new ArrayList<>();
    private final String name;
    private final List<Part> parts = new ArrayList<>();
    private final Map<String, Long> items = new HashMap<>();
    private final Map<String, Long> types = new HashMap<>();
    private final List<String> horizons = new ArrayList<>();
    private final Set<String> wanted = new LinkedHashSet<>();
    private final int inputs;
    private final int bytes;

    Model(Path bundle) throws IOException, OrtException {
        ObjectMapper json = new ObjectMapper();
        JsonNode manifest = json.readTree(bundle.resolve("manifest.json").toFile());
        JsonNode names = json.readTree(bundle.resolve("vocabulary.json").toFile()).get("items");
        Set<String> whole = new HashSet<>();
        manifest.get("integers").forEach(part -> whole.add(part.asText()));
        manifest.get("hidden").properties().forEach(
            part -> parts.add(new Part(part.getKey(), part.getValue().get(0).asInt(), whole.contains(part.getKey()))));
        names.forEach(item -> {
            ids.add(item.asText());
            items.put(item.asText(), (long) ids.size());
        });
        manifest.get("meaning").get("types").forEach(type -> types.put(type.asText(), (long) types.size()));
        manifest.get("meaning").get("horizons").forEach(horizon -> horizons.add(horizon.asText()));
        name = manifest.get("model").asText();
        inputs = manifest.get("inputs").size();
        bytes = parts.stream().mapToInt(Part::bytes).sum();
        wanted.add("intent");
        parts.forEach(part -> wanted.add(part.name() + "_next"));
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1);
        session = environment.createSession(bundle.resolve("step.onnx").toString(), options);
        Path exact = bundle.resolve("exact.onnx");
        catalog = Files.exists(exact) ? environment.createSession(exact.toString(), options) : null;
        if (catalog != null) {
            wanted.add("query");
        }
    }

    String name() {
        return name;
    }

    /** Take one event; a state of null is a new shopper's. */
    Answer step(String item, String type, byte[] state) throws OrtException {
        Map<String, OnnxTensor> given = given(item, type, state == null ? new byte[bytes] : state);
        try (OrtSession.Result found = session.run(given, wanted)) {
            FloatBuffer intent = ((OnnxTensor) found.get("intent").orElseThrow()).getFloatBuffer();
            Map<String, Double> byHorizon = new LinkedHashMap<>();
            for (String horizon : horizons) {
                byHorizon.put(horizon, Math.round(intent.get() * 1e7) / 1e7);
            }
            return new Answer(byHorizon, packed(found), catalog == null ? null : best(found));
        } finally {
            given.values().forEach(OnnxTensor::close);
        }
    }

    private List<String> best(OrtSession.Result found) throws OrtException {
        Map<String, OnnxTensor> asked = Map.of("query", (OnnxTensor) found.get("query").orElseThrow());
        try (OrtSession.Result result = catalog.run(asked)) {
            List<String> listed = new ArrayList<>();
            for (long place : ((long[][]) result.get(0).getValue())[0]) {
                listed.add(ids.get((int) place));
            }
            return listed;
        }
    }

    private Map<String, OnnxTensor> given(String item, String type, byte[] state) throws OrtException {
        Map<String, OnnxTensor> given = new HashMap<>();
        given.put("item", OnnxTensor.createTensor(environment, new long[] {items.getOrDefault(item, 0L)}));
        given.put("category", OnnxTensor.createTensor(environment, new long[] {0L}));
        given.put("type", OnnxTensor.createTensor(environment, new long[] {types.get(type)}));
        given.put("numeric", OnnxTensor.createTensor(environment, new float[1][inputs]));
        ByteBuffer raw = ByteBuffer.wrap(state).order(ByteOrder.LITTLE_ENDIAN);
        int at = 0;
        for (Part part : parts) {
            ByteBuffer slice = raw.slice(at, part.bytes()).order(ByteOrder.LITTLE_ENDIAN);
            long[] shape = {1, part.size()};
            given.put(part.name(), part.whole()
                ? OnnxTensor.createTensor(environment, slice.asLongBuffer(), shape)
                : OnnxTensor.createTensor(environment, slice.asFloatBuffer(), shape));
            at += part.bytes();
        }
        return given;
    }

    private byte[] packed(OrtSession.Result found) {
        ByteBuffer raw = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
        for (Part part : parts) {
            OnnxTensor value = (OnnxTensor) found.get(part.name() + "_next").orElseThrow();
            ByteBuffer slice = raw.slice(raw.position(), part.bytes()).order(ByteOrder.LITTLE_ENDIAN);
            if (part.whole()) {
                slice.asLongBuffer().put(value.getLongBuffer());
            } else {
                slice.asFloatBuffer().put(value.getFloatBuffer());
            }
            raw.position(raw.position() + part.bytes());
        }
        return raw.array();
    }
}
