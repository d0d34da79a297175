;; Writes a number that goes on with further members of the message.
;; expect: no JSON number: `1,
(data (i32.const 24576) "1,\"admin\":true")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 3) (i32.const 14) (i32.const 14)))
