import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Print scores as they come: java -cp kafka-clients.jar:slf4j-api.jar Reader.java HOST:PORT TOPIC [COUNT]. */
public class Reader {
    public static void main(String[] args) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("group.id", "score-reader-java");
        settings.put("isolation.level", "read_committed"); // the default lets scores of aborted transactions through
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        long left = args.length > 2 ? Long.parseLong(args[2]) : -1;
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(record.key() + "\t" + record.value());
                    if (--left == 0) {
                        return; // uncommitted: the next run reads this batch again
                    }
                }
                consumer.commitSync(); // only what was handled is committed
            }
        }
    }
}
